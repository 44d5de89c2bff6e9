import Foundation
import XCTest

@testable import KokoroBundle

final class JSONValueTests: XCTestCase {
    private func parsed(_ text: String) throws -> JSONValue {
        try JSONValue(parsing: Data(text.utf8))
    }

    func testNumbersStayWhatTheyWereWrittenAs() throws {
        XCTAssertEqual(try parsed("1"), .integer("1"))
        XCTAssertEqual(try parsed("-0"), .integer("0"))
        XCTAssertEqual(try parsed("1.0"), .double(1))
        XCTAssertEqual(try parsed("1E2"), .double(100))
        XCTAssertEqual(try parsed("1e400"), .double(.infinity))
        XCTAssertEqual(try parsed("5e-324"), .double(Double.leastNonzeroMagnitude))
        XCTAssertEqual(
            try parsed("123456789012345678901234567890"),
            .integer("123456789012345678901234567890"))
    }

    func testTextsAreCodePoints() throws {
        XCTAssertEqual(try parsed(#""\ud83d\udde3\n\u00e9\/""#), .string("🗣\né/"))
        XCTAssertEqual(try parsed(#""\uD83D\uDDE3""#), .string("🗣"))
        XCTAssertEqual(
            try parsed(#""\ud800\udc00\udbff\udfff""#), .string("\u{10000}\u{10FFFF}"))
        guard case .object(let table) = try parsed("{\"\u{E9}\": 1, \"e\u{301}\": 2}") else {
            return XCTFail("expected an object")
        }
        XCTAssertEqual(table.count, 2)
        XCTAssertEqual(table["\u{E9}"], .integer("1"))
    }

    func testOfANameThatOccursTwiceTheLastValueCounts() throws {
        guard case .object(let table) = try parsed(#"{"a": 1, "b": 2, "a": 3}"#) else {
            return XCTFail("expected an object")
        }
        XCTAssertEqual(table.names, ["a", "b"])
        XCTAssertEqual(table["a"], .integer("3"))
    }

    func testWhatPythonRefusesIsRefused() {
        let wrong = [
            "", " ", "NaN", "Infinity", "-Infinity", "nul", "True", "01", "-", "+1", "1.", ".5",
            "1e", "0x1", "1_0", "[1,]", "[1 2]", "{\"a\":1,}", "{a: 1}", "{\"a\" 1}", "{\"a\":}",
            "'a'", "\"a", "\"\t\"", "\"\n\"", #""\x""#, #""\u12""#, #""\u+123""#, "1 1", "[1]]",
            "\u{FEFF}1", "\u{A0}1", "// a\n1", String(repeating: "1", count: 4301),
        ]
        for text in wrong { XCTAssertThrowsError(try parsed(text), text) }
        XCTAssertThrowsError(try JSONValue(parsing: Data([0x22, 0xFF, 0x22])))
        XCTAssertThrowsError(try JSONValue(parsing: Data([0x22, 0xED, 0xA0, 0x80, 0x22])))
    }

    func testHalfASurrogatePairIsRefused() {
        let halves = [
            #"\ud83d"#, #"\ud83dA"#, #"\udde3"#, #"\udde3\ud83d"#, #"\ud83d\ud83d\udde3"#,
            #"\ud83d\n"#, #"\ud83d\u0041"#, #"\\\ud83d\\udde3"#, #"\udfff"#,
        ]
        for half in halves {
            XCTAssertThrowsError(try parsed("\"\(half)\""), half)
            XCTAssertThrowsError(try parsed("{\"\(half)\": 1}"), half)
            XCTAssertThrowsError(try parsed("{\"a\": \"\(half)\", \"a\": 1}"), half)
        }
        XCTAssertEqual(try parsed(#""\\ud83d""#), .string(#"\ud83d"#))
    }

    func testNestingIsReadAsDeepAsItMayBeAndNoDeeper() throws {
        let nested = { (depth: Int) in
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        XCTAssertNoThrow(try parsed(nested(JSONValue.deepest)))
        XCTAssertThrowsError(try parsed(nested(JSONValue.deepest + 1)))
        XCTAssertThrowsError(try parsed(String(repeating: "[", count: 1_000_000)))
    }
}

final class JSONValueThreadTests: XCTestCase {
    /// The stack of Apple's secondary threads.
    private let stackBytes = 512 << 10

    func testTheDeepestDocumentFitsTheStackOfAnyThread() {
        let done = expectation(description: "parsed, shown and released")
        let deepest = JSONValue.deepest
        let thread = Thread {
            let text =
                String(repeating: "[", count: deepest) + String(repeating: "]", count: deepest)
            let shown = try? JSONValue(parsing: Data(text.utf8)).shown(2 * deepest)
            if shown == text { done.fulfill() }
        }
        thread.stackSize = stackBytes
        thread.start()
        wait(for: [done], timeout: 60)
    }
}

final class NearestNameTests: XCTestCase {
    func testAMisspeltKeyIsOfferedTheNearestOne() {
        XCTAssertEqual(
            nearest("sampel_rate", of: ["sample", "sample_rate"]),
            "did you mean 'sample_rate'?")
        XCTAssertEqual(nearest("speed", of: ["name", "license"]), "known: name, license")
    }
}
