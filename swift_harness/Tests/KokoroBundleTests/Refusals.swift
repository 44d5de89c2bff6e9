import XCTest

@testable import KokoroBundle

/// Fails unless the expression throws a `KokoroError` of this exit code that says each of `parts`.
func assertRefused<Value>(
    _ code: Int32, _ parts: String..., line: UInt = #line,
    _ expression: () throws -> Value
) {
    XCTAssertThrowsError(try expression(), line: line) { error in
        guard let error = error as? KokoroError else {
            return XCTFail("not a KokoroError: \(error)", line: line)
        }
        XCTAssertEqual(error.exitCode, code, line: line)
        for part in parts {
            XCTAssert(
                error.localizedDescription.contains(part), "'\(error.message)' lacks '\(part)'",
                line: line)
        }
    }
}
