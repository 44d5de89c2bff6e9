import Foundation
import GoldenSupport
import KokoroBundle
import KokoroSignal
import XCTest

@testable import KokoroGoldens

/// Python's numbers.
final class GoldenTests: XCTestCase {
    /// Every implementation that this system has.
    private var implementations: [any VectorMath.Type] {
        #if canImport(Accelerate)
            return [PlainMath.self, AccelerateMath.self]
        #else
            return [PlainMath.self]
        #endif
    }

    func testEveryFunctionGivesPythonsNumbers() throws {
        let folder = try CommittedGoldens.folder()
        XCTAssertEqual(folder.functions, try PortableFunctions.all(for: folder).map(\.name))
        for math in implementations {
            var counts: [String: Int] = [:]
            for function in try PortableFunctions.all(for: folder, using: math) {
                let found = try function.check(in: folder)
                counts[function.name] = found.cases
                for failure in found.failures { XCTFail("\(math): \(failure)") }
            }
            XCTAssertGreaterThanOrEqual(counts.values.min() ?? 0, 10)
            XCTAssertGreaterThanOrEqual(counts.removeValue(forKey: "manifests") ?? 0, 150)
            XCTAssertGreaterThanOrEqual(counts.values.reduce(0, +), 500)
        }
    }

    func testAWrongNumberARefusalAndAnAcceptanceAreFailures() throws {
        let folder = try CommittedGoldens.folder()
        let loudness = try GoldenFile("loudness", in: folder)
        XCTAssertEqual(loudness.failures { _ in .table([:]) }.count, loudness.count)
        XCTAssertEqual(
            loudness.failures { _ in throw KokoroError.voice("no") }.count, loudness.count)
        let wrong = PortableFunction("wav") { _ in .table(["bytes": .bytes(Data())]) }
        let found = try wrong.check(in: folder)
        XCTAssertEqual(found.failures.count, found.cases)
        XCTAssert(found.failures.contains { $0.hasSuffix("accepted, expected an error") })
    }

    func testFilesThatAreNotWhatTheIndexSaysAreRefused() throws {
        let copy = FileManager.default.temporaryDirectory.appendingPathComponent(
            "goldens-\(UUID().uuidString)")
        try FileManager.default.copyItem(at: CommittedGoldens.url, to: copy)
        defer { try? FileManager.default.removeItem(at: copy) }
        let file = copy.appendingPathComponent("halves.json")
        try (Data(contentsOf: file) + Data(" ".utf8)).write(to: file)
        let folder = try GoldenFolder(copy)
        for name in ["halves", "unheard-of"] {
            XCTAssertThrowsError(try GoldenFile(name, in: folder)) {
                XCTAssertEqual(($0 as? KokoroError)?.exitCode, 11)
            }
        }
        XCTAssertNoThrow(try GoldenFile("joining", in: folder))
        XCTAssertThrowsError(try GoldenFolder(copy.appendingPathComponent("nowhere")))
    }
}
