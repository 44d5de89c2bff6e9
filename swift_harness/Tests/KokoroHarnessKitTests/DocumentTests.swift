import Foundation
import GoldenSupport
import KokoroBundle
import SynthesisSupport
import XCTest

@testable import KokoroHarnessKit

/// What is written has the form of the files in `tests/data`, which Python's tests read.
/// `KOKORO_WRITE_DOCUMENTS=1` writes those files anew.
final class DocumentTests: XCTestCase {
    private static let folder = CommittedGoldens.url.deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("tests/data")
    private let scratch = try? ScratchFolder()

    private func recordings() throws -> Recordings {
        try Recordings(
            folder: Recordings.committed,
            voices: Self.folder.deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("kokoro_coreml/data/voices"))
    }

    private func place(_ name: String) throws -> URL {
        try XCTUnwrap(scratch).url.appendingPathComponent(name)
    }

    /// Names and kinds of a document's values; lists by those of their items, tables of digests by
    /// one of theirs.
    private func form(_ value: JSONValue) -> String {
        switch value {
        case .null: return "null"
        case .bool: return "bool"
        case .integer: return "integer"
        case .double: return "number"
        case .string: return "text"
        case .array(let items): return "[\(Set(items.map(form)).sorted().joined(separator: " "))]"
        case .object(let table):
            let rows = table.entries.map { name, value in
                "\(name.utf8.count == 64 ? "digest" : name): \(form(value))"
            }
            return "{\(Array(Set(rows)).sorted().joined(separator: ", "))}"
        }
    }

    private func compare(_ written: URL, with name: String) throws {
        let committed = Self.folder.appendingPathComponent(name)
        if ProcessInfo.processInfo.environment["KOKORO_WRITE_DOCUMENTS"] == "1" {
            try Data(contentsOf: written).write(to: committed)
        }
        let forms = try [written, committed].map {
            form(try JSONValue(parsing: Data(contentsOf: $0)))
        }
        XCTAssertEqual(forms[0], forms[1], name)
    }

    func testVerify() async throws {
        // the bundle is removed with the recordings it was made of
        let recordings = try recordings()
        let file = try place("harness.json")
        let run = await HarnessTests.run(
            "verify", recordings.bundle.url.path, "--goldens", CommittedGoldens.url.path,
            "--unchecked", "--runtime",
            "recorded", "--json", file.path)
        withExtendedLifetime(recordings) { XCTAssertEqual(run.code, 0, run.messages) }
        try compare(file, with: "harness-linux.json")
    }

    func testBench() async throws {
        let recordings = try recordings()
        let short = try XCTUnwrap(recordings.all.first { $0.speed == 1 && $0.parts.count == 1 })
        let file = try place("bench.json")
        let run = await HarnessTests.run(
            "bench", recordings.bundle.url.path, "--unchecked", "--phonemes", short.phonemes,
            "--repeat", "2", "--compute-units", "CPU_AND_NE", "--compute-units", "bundle",
            "--json", file.path, runtime: PlaybackRuntime(recordings: recordings.all))
        XCTAssertEqual(run.code, 0, run.messages)
        try compare(file, with: "bench-linux.json")
        let json = try JSONValue(parsing: Data(contentsOf: file))
        guard case .array(let devices) = json["devices"],
            case .array(let functions) = devices[0]["functions"],
            case .array(let runs) = functions[0]["run_seconds"]?["values"]
        else { return XCTFail("no functions") }
        XCTAssertEqual(devices.count, 2)
        XCTAssertEqual(functions.count, PipelineStage.allCases.count)
        XCTAssertEqual(runs.count, 2)
    }

    func testPlan() async throws {
        let recordings = try recordings()
        let out = try place("plans")
        let run = await HarnessTests.run(
            "plan", recordings.bundle.url.path, "--unchecked", "--stage", "Tail", "--out", out.path,
            runtime: PlaybackRuntime(recordings: recordings.all))
        XCTAssertEqual(run.code, 0, run.messages)
        let files = try FileManager.default.contentsOfDirectory(atPath: out.path)
        XCTAssertEqual(files, ["Tail.frames_128.CPU_ONLY.json"])
        try compare(out.appendingPathComponent(files[0]), with: "plan-linux.json")
        let unknown = await HarnessTests.run(
            "plan", recordings.bundle.url.path, "--unchecked", "--stage", "Tial", "--out", out.path,
            runtime: PlaybackRuntime(recordings: recordings.all))
        XCTAssertEqual(unknown.code, 2)
        XCTAssert(unknown.messages.contains("did you mean 'Tail'?"), unknown.messages)
    }
}
