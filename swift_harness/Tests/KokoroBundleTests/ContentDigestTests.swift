import Foundation
import XCTest

@testable import KokoroBundle

final class ContentDigestTests: XCTestCase {
    /// Examples of FIPS 180-4, and lengths at which the padding takes one block more.
    private let known = [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        (
            String(repeating: "a", count: 1_000_000),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        ),
    ]

    func testKnownTextsHaveTheirDigests() {
        for (text, digest) in known {
            XCTAssertEqual(ContentDigest.of(Data(text.utf8)), digest)
        }
    }

    func testThePlainImplementationGivesTheSameInPiecesOfAnySize() {
        for (text, digest) in known {
            for piece in [1, 55, 56, 63, 64, 65, 1000] where text.count < 100 * piece || piece > 60
            {
                var hasher = PlainSHA256()
                let bytes = Data(text.utf8)
                for start in stride(from: 0, to: bytes.count, by: piece) {
                    hasher.update(bytes[start..<min(start + piece, bytes.count)])
                }
                XCTAssertEqual(ContentDigest.hexadecimal(hasher.finish()), digest)
            }
        }
    }

    func testAFileHasTheDigestOfItsContent() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: url) }
        try Data("abc".utf8).write(to: url)
        XCTAssertEqual(try ContentDigest.of(fileAt: url), known[1].1)
    }

    func testAFileThatIsNotThereIsAnErrorOfTheBundle() {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        XCTAssertThrowsError(try ContentDigest.of(fileAt: url)) { error in
            XCTAssertEqual((error as? KokoroError)?.exitCode, 11)
        }
    }
}
