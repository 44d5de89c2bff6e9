import Foundation
import XCTest

@testable import KokoroBundle

final class VoicePackTests: XCTestCase {
    func testTheDigestIsThatOfTheFile() throws {
        let bytes = Data((0..<24).map { UInt8($0) })
        let pack = try VoicePack(name: "small", bytes: bytes, rows: 2, columns: 3)
        XCTAssertEqual(pack.sha256, ContentDigest.of(bytes))
        XCTAssertEqual(LittleEndian.bytes(pack.values), bytes)
    }

    func testValuesOfAnotherNumberAreRefused() {
        assertRefused(6, "expected values [2, 3], found 5") {
            try VoicePack(name: "small", values: [1, 2, 3, 4, 5], rows: 2, columns: 3)
        }
    }

    func testPacksOfOtherShapesAndNoPacksAreNotBlended() throws {
        let wide = try VoicePack(name: "wide", values: [1, 2, 3, 4], rows: 1, columns: 4)
        let tall = try VoicePack(name: "tall", values: [1, 2, 3, 4], rows: 4, columns: 1)
        assertRefused(6, "voice tall: expected shape [1, 4], found [4, 1]") {
            try VoicePack.blended([(wide, 0.5), (tall, 0.5)])
        }
        assertRefused(6, "at least one") { try VoicePack.blended([]) }
    }

    func testWeightsAreReadAsPythonReadsNumbers() {
        let number = { (text: String) in DecimalText.number(text.unicodeScalars) }
        for (text, value) in [
            ("1", 1), ("1.5", 1.5), (".5", 0.5), ("5.", 5), ("1_000", 1000), ("٣", 3),
            ("1e-3", 0.001),
            ("+2", 2), ("-2", -2), ("Infinity", Double.infinity), ("1e400", .infinity),
        ] {
            XCTAssertEqual(number(text), value, text)
        }
        for text in ["", ".", "1__0", "_1", "1_", "0x1p3", "1e", "e5", "1.2.3", "²", "1 2", "nane"]
        {
            XCTAssertNil(number(text), text)
        }
        XCTAssertEqual(number("nan")?.isNaN, true)
    }
}

final class ErrorsTests: XCTestCase {
    func testEveryErrorHasPythonsExitCodeAndItsMessage() {
        let errors: [(KokoroError, Int32, String)] = [
            (.argument("m"), 2, "usage"), (.checkpoint("m"), 4, "checkpoint"),
            (.voice("m"), 6, "voice"), (.phonemes("m"), 7, "phonemes"),
            (.parity("m"), 10, "parity"),
            (.bundle("m"), 11, "bundle"),
        ]
        for (error, code, title) in errors {
            XCTAssertEqual(error.exitCode, code)
            XCTAssertEqual(error.title, title)
            XCTAssertEqual(error.localizedDescription, "m")
        }
        let overflow = KokoroError.frameOverflow(needed: 1200, held: 600)
        XCTAssertEqual(overflow.exitCode, 7)
        XCTAssert(overflow.localizedDescription.contains("needs 1200 samples"))
    }

    func testTextInMessagesIsEscapedAsPythonDoes() {
        XCTAssertEqual(quoted("a'b"), #""a'b""#)
        XCTAssertEqual(quoted("a'\"b"), #"'a\'"b'"#)
        XCTAssertEqual(quoted("\n\u{1}\u{200B}\u{10FFFF}\\ é"), #"'\n\x01\u200b\U0010ffff\\ é'"#)
    }
}
