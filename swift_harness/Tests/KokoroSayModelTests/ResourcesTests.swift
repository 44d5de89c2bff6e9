import Foundation
import GoldenSupport
import KokoroBundle
import KokoroSayModel
import XCTest

final class ResourcesTests: XCTestCase {
    func testTheBundleIsFoundAmongTheResources() throws {
        let resources = FileManager.default.temporaryDirectory
            .appendingPathComponent("resources-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: resources) }
        let place = resources.appendingPathComponent("Models/kokoro-82m")
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        XCTAssertThrowsError(try BundlePlace.find(in: resources)) { error in
            let message = (error as? KokoroError)?.message ?? ""
            XCTAssertTrue(message.contains("Examples/KokoroSay/Models/kokoro-82m"), message)
        }
        try Data("{}".utf8).write(to: place.appendingPathComponent("manifest.json"))
        XCTAssertEqual(try BundlePlace.find(in: resources).path, place.path)
        XCTAssertThrowsError(try BundlePlace.find(in: nil))
    }

    func testTheNetworkKnowsThePhonemesOfEveryExample() throws {
        let table = try CommittedGoldens.folder().content("vocabulary.json")
        let configuration = Data(#"{"n_token": 178, "vocab": "#.utf8) + table + Data("}".utf8)
        let vocabulary = try Vocabulary(configuration: configuration, maxPhonemes: 510)
        XCTAssertEqual(Set(ExampleSentence.all.map(\.id)).count, ExampleSentence.all.count)
        for example in ExampleSentence.all {
            XCTAssertGreaterThan(try vocabulary.encode(example.phonemes).count, 10, example.text)
        }
    }
}
