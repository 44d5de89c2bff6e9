"""Checks the proofs that tests of operations claim; see `proofs.py`."""

from collections.abc import Generator

import pytest
from proofs import unproven, watched


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "proves(ops, against, over, source): operations a test proves; see proofs.py"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    claims = list(item.iter_markers("proves"))
    if not claims:
        return (yield)
    with watched() as executed:
        result = yield
    missing = unproven(claims, executed)
    if missing:
        pytest.fail(f"claims to prove what was not run: {', '.join(missing)}", pytrace=False)
    return result
