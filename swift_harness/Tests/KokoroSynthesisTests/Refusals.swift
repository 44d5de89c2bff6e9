import KokoroBundle
import XCTest

/// Fails unless the expression throws a `KokoroError` of this exit code that says each of `parts`.
func assertRefused<Value>(
    _ code: Int32, _ parts: String..., line: UInt = #line,
    _ expression: () async throws -> Value
) async {
    do {
        _ = try await expression()
        XCTFail("nothing was thrown", line: line)
    } catch let error as KokoroError {
        XCTAssertEqual(error.exitCode, code, error.message, line: line)
        for part in parts {
            XCTAssert(
                error.localizedDescription.contains(part), "'\(error.message)' lacks '\(part)'",
                line: line)
        }
    } catch {
        XCTFail("not a KokoroError: \(error)", line: line)
    }
}

/// Fails unless the expression throws `CancellationError`.
func assertCancelled<Value>(
    line: UInt = #line, _ expression: () async throws -> Value
) async {
    do {
        _ = try await expression()
        XCTFail("nothing was thrown", line: line)
    } catch {
        XCTAssert(error is CancellationError, "\(error)", line: line)
    }
}
