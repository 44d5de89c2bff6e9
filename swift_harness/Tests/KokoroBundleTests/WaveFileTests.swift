import Foundation
import XCTest

@testable import KokoroBundle

final class WaveFileTests: XCTestCase {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
        UUID().uuidString)

    override func setUpWithError() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    override func tearDownWithError() throws { try FileManager.default.removeItem(at: folder) }

    func testClippedSamplesAreCountedAndThePeakIsKept() throws {
        let file = try WaveFile(samples: [0.5, -1.5, 1, -1, 1.25], sampleRate: 24_000)
        XCTAssertEqual(file.clippedSamples, 2)
        XCTAssertEqual(file.peak, 1.5)
    }

    func testTheSampleRateStandsInTheHeader() throws {
        let file = try WaveFile(samples: [0], sampleRate: 22_050)
        XCTAssertEqual(Array(file.data[24..<32]), [0x22, 0x56, 0, 0, 0x44, 0xAC, 0, 0])
    }

    func testASampleRateThatNoFileHoldsIsRefused() throws {
        let most = Int(Int32.max)
        for rate in [Int.min, -1, 0, most + 1, .max] {
            assertRefused(2, "a sample rate of \(rate) Hz") {
                try WaveFile(samples: [0], sampleRate: rate)
            }
        }
        XCTAssertEqual(try WaveFile(samples: [0], sampleRate: most).data[24], 0xFF)
    }

    func testAFileIsReplacedOnlyIfThatIsAskedFor() throws {
        let url = folder.appendingPathComponent("a.wav")
        let first = try WaveFile(samples: [0.5], sampleRate: 24_000)
        let second = try WaveFile(samples: [0.25, 0.5], sampleRate: 24_000)
        try first.write(to: url)
        assertRefused(11, "a.wav' exists already") { try second.write(to: url) }
        XCTAssertEqual(try Data(contentsOf: url), first.data)
        try second.write(to: url, replacing: true)
        XCTAssertEqual(try Data(contentsOf: url), second.data)
    }

    func testAFolderAndAPlaceThatIsNotThereAreRefused() throws {
        let file = try WaveFile(samples: [0.5], sampleRate: 24_000)
        assertRefused(11, "is a folder") { try file.write(to: folder, replacing: true) }
        assertRefused(11, "cannot write") {
            try file.write(to: folder.appendingPathComponent("none/a.wav"))
        }
    }
}
