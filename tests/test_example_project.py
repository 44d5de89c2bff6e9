"""The example app's Xcode project, as far as it can be judged without Xcode."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from pbxproj import XcodeProject

ROOT = Path(__file__).parent.parent
APP = ROOT / "swift_harness" / "Examples" / "KokoroSay"
PROJECT = APP / "KokoroSay.xcodeproj"
PACKAGE = (ROOT / "swift_harness" / "Package.swift").read_text(encoding="utf-8")
IDENTIFIER = re.compile(r"[0-9A-F]{24}")


@pytest.fixture(scope="module")
def project():
    return XcodeProject.load(str(PROJECT / "project.pbxproj"))


@pytest.fixture(scope="module")
def objects(project):
    return {
        entry.get_id(): entry
        for entry in project.objects.get_objects_in_section(*sections(project))
    }


def sections(project):
    return project.objects.get_sections()


def of(objects, kind):
    return [entry for entry in objects.values() if entry.isa == kind]


def one(objects, kind):
    (found,) = of(objects, kind)
    return found


def references(value):
    """Every identifier in an object."""
    if isinstance(value, str):
        return {value} if IDENTIFIER.fullmatch(value) else set()
    if isinstance(value, list):
        return set().union(*map(references, value))
    if hasattr(value, "get_keys"):
        values = [value[key] for key in value.get_keys()]
        return set().union(*map(references, values), *map(references, value.get_keys()))
    return set()


def paths(objects, group, folder):
    """Every file of a group's tree that lies in the source tree, by its identifier."""
    found = {}
    for identifier in group.children:
        entry = objects[identifier]
        if entry.sourceTree != "<group>":
            continue
        place = folder / entry["path"] if entry["path"] else folder
        if entry.isa == "PBXGroup":
            found |= paths(objects, entry, place)
        else:
            found[identifier] = place
    return found


def settings(objects, owner):
    """The settings of each configuration of the project or its target."""
    lists = objects[owner.buildConfigurationList]
    found = {objects[i].name: objects[i].buildSettings for i in lists.buildConfigurations}
    assert lists.defaultConfigurationName in found
    return found


def test_every_reference_leads_to_an_object_and_every_object_is_reached(project, objects):
    root = project["rootObject"]
    reached, todo = set(), {root}
    while todo:
        identifier = todo.pop()
        assert identifier in objects, identifier
        reached.add(identifier)
        keys = [k for k in objects[identifier].get_keys() if k != "_id"]
        todo |= references([objects[identifier][key] for key in keys]) - reached
    assert reached == objects.keys()
    assert objects[root].isa == "PBXProject"
    text = (PROJECT / "project.pbxproj").read_text(encoding="utf-8")
    declared = re.findall(r"(?m)^\t\t([0-9A-F]{24}) .*= \{", text)
    assert len(declared) == len(set(declared)) == len(objects)


def test_every_file_exists_and_every_source_is_compiled(objects):
    main = objects[one(objects, "PBXProject").mainGroup]
    listed = paths(objects, main, APP)
    for place in listed.values():
        assert place.exists(), place
    compiled = {objects[i].fileRef for i in one(objects, "PBXSourcesBuildPhase").files}
    sources = {listed[identifier] for identifier in compiled}
    assert sources == set((APP / "KokoroSay").glob("*.swift"))
    assert len(sources) >= 4


def test_the_folder_of_bundles_becomes_a_resource(objects):
    (build,) = one(objects, "PBXResourcesBuildPhase").files
    folder = objects[objects[build].fileRef]
    assert (folder.lastKnownFileType, folder["path"]) == ("folder", "Models")
    place = (ROOT / "swift_harness/Sources/KokoroSayModel/BundlePlace.swift").read_text("utf-8")
    assert 'folder = "Models"' in place
    assert 'name = "kokoro-82m"' in place


def test_git_keeps_the_folder_of_bundles_and_ignores_what_is_copied_into_it():
    assert (APP / "Models" / "README.md").is_file()
    rules = (ROOT / "swift_harness" / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = rules.index("Examples/KokoroSay/Models/*")
    assert rules.index("!Examples/KokoroSay/Models/README.md") > ignored


def test_the_package_beside_it_has_the_products(objects):
    package = one(objects, "XCLocalSwiftPackageReference")
    assert (APP / package.relativePath).resolve() == ROOT / "swift_harness"
    products = {entry.productName for entry in of(objects, "XCSwiftPackageProductDependency")}
    assert products == {"KokoroCoreML", "KokoroSayModel"}
    for name in products:
        assert f'.library(name: "{name}"' in PACKAGE
    linked = {objects[i].productRef for i in one(objects, "PBXFrameworksBuildPhase").files}
    assert linked == set(one(objects, "PBXNativeTarget").packageProductDependencies)
    imported = {
        line.split()[1]
        for path in (APP / "KokoroSay").glob("*.swift")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("import ")
    }
    assert {name for name in imported if name.startswith("Kokoro")} == products


def test_one_target_for_macs_and_iphones(objects):
    target = one(objects, "PBXNativeTarget")
    assert target.productType == "com.apple.product-type.application"
    assert one(objects, "PBXProject").targets == [target.get_id()]
    versions = dict(re.findall(r"\.(iOS|macOS)\(\.v(\d+)\)", PACKAGE))
    of_project = settings(objects, one(objects, "PBXProject"))
    of_target = settings(objects, target)
    assert of_project.keys() == of_target.keys() == {"Debug", "Release"}
    for name in of_target:
        shared, asked = of_project[name], of_target[name]
        assert shared["IPHONEOS_DEPLOYMENT_TARGET"] == versions["iOS"] + ".0"
        assert shared["MACOSX_DEPLOYMENT_TARGET"] == versions["macOS"] + ".0"
        assert shared.SDKROOT == "auto"
        assert asked.SUPPORTED_PLATFORMS.split() == ["iphoneos", "iphonesimulator", "macosx"]
        assert asked.GENERATE_INFOPLIST_FILE == "YES"
        assert asked.SWIFT_STRICT_CONCURRENCY == "complete"
        assert asked.INFOPLIST_KEY_CFBundleDisplayName == "KokoroSay"


def test_the_shared_scheme_names_the_target(objects):
    target = one(objects, "PBXNativeTarget")
    scheme = ET.parse(PROJECT / "xcshareddata" / "xcschemes" / "KokoroSay.xcscheme").getroot()
    named = list(scheme.iter("BuildableReference"))
    assert len(named) == 3
    for reference in named:
        assert reference.get("BlueprintIdentifier") == target.get_id()
        assert reference.get("BlueprintName") == target.name
        assert reference.get("BuildableName") == objects[target.productReference]["path"]
        assert reference.get("ReferencedContainer") == f"container:{PROJECT.name}"
    built = {
        c.name for c in map(objects.get, objects[target.buildConfigurationList].buildConfigurations)
    }
    actions = {e.get("buildConfiguration") for e in scheme if e.get("buildConfiguration")}
    assert actions <= built
    workspace = ET.parse(PROJECT / "project.xcworkspace" / "contents.xcworkspacedata").getroot()
    assert [ref.get("location") for ref in workspace.iter("FileRef")] == ["self:"]
