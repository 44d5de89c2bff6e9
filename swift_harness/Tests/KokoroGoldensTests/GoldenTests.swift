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

    private static let drawn = [
        "blended_rows", "blends", "halves", "joining", "manifests", "noise", "splitting",
        "timestamps", "tokenizer", "vocabularies", "voice_files", "voices",
    ]
    private static let leastCases = 500

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

    /// `.ci/run` writes the cases anew and asks for them; elsewhere they are run where they are.
    func testRandomCasesGivePythonsNumbersAndVerdicts() throws {
        let place = CommittedGoldens.url.deletingLastPathComponent()
            .appendingPathComponent("random")
        let exists = { (name: String) in
            FileManager.default.fileExists(atPath: place.appendingPathComponent(name).path)
        }
        guard exists("required") || exists("goldens/index.json") else {
            throw XCTSkip("no random golden files; docs/goldens.md says how to write some")
        }
        let folder = try GoldenFolder(place.appendingPathComponent("goldens"))
        let seed = try XCTUnwrap(folder.seed)
        let names = folder.functions
        XCTAssert(Set(names).isSuperset(of: Self.drawn), "only \(names)")
        let functions = try PortableFunctions.all(for: folder)
        XCTAssert(Set(functions.map(\.name)).isSuperset(of: names), "only \(functions.map(\.name))")
        for function in functions where names.contains(function.name) {
            let found = try function.check(in: folder)
            print("random goldens of seed \(seed): \(found.cases) cases of \(function.name)")
            XCTAssertGreaterThanOrEqual(found.cases, Self.leastCases, function.name)
            for failure in found.failures { XCTFail("seed \(seed): \(failure)") }
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
