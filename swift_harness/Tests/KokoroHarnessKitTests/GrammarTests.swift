import KokoroBundle
import XCTest

@testable import KokoroHarnessKit

final class GrammarTests: XCTestCase {
    private let grammar = CommandGrammar(
        name: "do", summary: "Does something.", positionals: ["BUNDLE"],
        options: [
            CommandOption("--speed", "NUMBER", help: "How fast."),
            CommandOption("--units", "UNITS", help: "Where.", isRepeatable: true),
            CommandOption("--force", help: "Whatever is there."),
        ])

    private func refused(
        _ words: [String], _ said: String, line: UInt = #line,
        _ use: (CommandArguments) throws -> Void = { _ in }
    ) {
        XCTAssertThrowsError(try use(grammar.parse(words)), line: line) { error in
            let error = error as? KokoroError
            XCTAssertEqual(error?.exitCode, 2, line: line)
            XCTAssert(error?.message.contains(said) == true, error?.message ?? "", line: line)
        }
    }

    func testValuesOptionsAndSwitchesAreRead() throws {
        let given = try grammar.parse([
            "--units", "ALL", "bundle", "--speed=1.5", "--units=CPU_ONLY", "--force",
        ])
        XCTAssertEqual(given.positionals, ["bundle"])
        XCTAssertEqual(given.texts("--units"), ["ALL", "CPU_ONLY"])
        XCTAssertEqual(try given.number("--speed"), 1.5)
        XCTAssert(given.has("--force"))
        XCTAssertEqual(try grammar.parse(["--", "--force"]).positionals, ["--force"])
        XCTAssertNil(try grammar.parse(["x"]).number("--speed"))
    }

    func testWhatIsWrongIsNamedWithTheNearest() {
        refused(["x", "--sped", "1"], "did you mean '--speed'?")
        refused(["x", "--speed"], "takes a value, NUMBER")
        refused(["x", "--speed", "1", "--speed", "2"], "given twice")
        refused(["x", "--force=yes"], "takes no value")
        refused(["x", "y"], "expected BUNDLE, found 2 values")
        refused([], "expected BUNDLE, found 0 values")
        refused(["x", "--speed", "fast"], "takes a number, found 'fast'") {
            _ = try $0.number("--speed")
        }
        refused(["x", "--speed", "inf"], "takes a number") { _ = try $0.number("--speed") }
        refused(["x", "--speed", "0"], "above 0") { _ = try $0.count("--speed") }
        refused(["x", "--units", "CPU"], "does not know 'CPU'") {
            _ = try $0.choices("--units", of: UnitChoice.names)
        }
        refused(["x"], "--speed is missing") { _ = try $0.needed("--speed") }
    }

    func testHelpNamesEveryOption() {
        for option in grammar.options { XCTAssert(grammar.help.contains(option.name)) }
        XCTAssert(grammar.help.hasPrefix("kokoro-harness do BUNDLE [options]"))
    }

    func testChoicesLeaveWhatIsPinnedOnTheProcessor() {
        XCTAssertEqual(
            UnitChoice.names, ["bundle", "ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"])
        for name in UnitChoice.names { XCTAssertEqual(UnitChoice(name: name)?.name, name) }
        XCTAssertNil(UnitChoice(name: "GPU"))
    }
}

final class JSONTextTests: XCTestCase {
    func testADocumentIsReadBackAsItWas() throws {
        let value = JSONValue.table([
            "text": .string("a\"\\\n\t\u{1}\u{303}é🙂"), "none": .null, "yes": .bool(true),
            "count": .count(-7), "number": .double(1e-7), "whole": .double(3),
            "list": .array([.double(0.1), .array([]), .table([:])]),
        ])
        XCTAssertEqual(try JSONValue(parsing: Data(JSONText.document(value).utf8)), value)
    }
}
