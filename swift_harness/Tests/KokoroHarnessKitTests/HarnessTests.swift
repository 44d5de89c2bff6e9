import Foundation
import GoldenSupport
import KokoroBundle
import KokoroSynthesis
import SynthesisSupport
import XCTest

@testable import KokoroHarnessKit

/// The command line without Core ML.
final class HarnessTests: XCTestCase {
    /// What a run said.
    struct Run {
        let code: Int32
        let results: String
        let messages: String
    }

    private static var system: String {
        #if os(Linux)
            return "Linux"
        #else
            return "macOS"
        #endif
    }

    private let scratch = try? ScratchFolder()

    static func run(_ words: String..., runtime: (any DeviceRuntime)? = nil) async -> Run {
        await run(words, runtime: runtime)
    }

    static func run(_ words: [String], runtime: (any DeviceRuntime)? = nil) async -> Run {
        let (results, messages) = (Lines(), Lines())
        let console = Console(result: results.add, message: messages.add)
        let code = await Harness(runtime: runtime, console: console).main(words)
        return Run(code: code, results: results.text, messages: messages.text)
    }

    private static let recordings = Result {
        try Recordings(
            folder: Recordings.committed,
            voices: Recordings.committed.deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent().appendingPathComponent("kokoro_coreml/data/voices"))
    }

    private func place(_ name: String) throws -> String {
        try XCTUnwrap(scratch).url.appendingPathComponent(name).path
    }

    func testVersionHelpAndWhatIsUnknown() async {
        let version = await Self.run("--version")
        XCTAssertEqual(version.results, "kokoro-harness \(Harness.version)")
        for command in ["check", "voices", "say", "verify", "bench", "plan"] {
            let help = await Self.run(command, "--help")
            XCTAssertEqual(help.code, 0)
            XCTAssert(help.results.hasPrefix("kokoro-harness \(command) BUNDLE"), help.results)
        }
        let unknown = await Self.run("verfy")
        XCTAssertEqual(unknown.code, 2)
        XCTAssert(unknown.messages.contains("did you mean 'verify'?"), unknown.messages)
        let option = await Self.run("check", "x", "--force")
        XCTAssertEqual(option.code, 2)
    }

    func testABundleIsCheckedAndItsVoicesListed() async throws {
        let bundle = try TinyBundle()
        let voices = await Self.run("voices", bundle.url.path, "--unchecked")
        XCTAssertEqual(voices.code, 0, voices.messages)
        XCTAssertEqual(voices.results.split(separator: "\n").count, 2)
        let whole = await Self.run("check", bundle.url.path)
        XCTAssertEqual(whole.code, 0, whole.messages)
        try Data("x".utf8).write(to: bundle.url.appendingPathComponent("config.json"))
        let changed = await Self.run("check", bundle.url.path)
        XCTAssertEqual(changed.code, 11)
        XCTAssert(changed.messages.contains("changed: config.json"), changed.messages)
        let none = await Self.run("check", try place("nothing"))
        XCTAssertEqual(none.code, 11)
    }

    func testWhatNeedsCoreMLSaysSo() async throws {
        let tiny = try TinyBundle()
        let (bundle, goldens) = (tiny.url.path, CommittedGoldens.url.path)
        let out = try place("out")
        let commands = [
            ["say", bundle, "--phonemes", "a", "--out", out],
            ["bench", bundle, "--phonemes", "a", "--json", out],
            ["plan", bundle, "--out", out],
            ["verify", bundle, "--goldens", goldens, "--json", out, "--runtime", "coreml"],
            ["verify", bundle, "--goldens", goldens, "--json", out, "--compute-units", "ALL"],
        ]
        for command in commands {
            let run = await Self.run(command)
            XCTAssertEqual(run.code, 9, "\(command): \(run.messages)")
            XCTAssert(run.messages.contains("run it on a Mac"), "\(command): \(run.messages)")
        }
        withExtendedLifetime(tiny) {
            XCTAssertFalse(FileManager.default.fileExists(atPath: out))
        }
    }

    func testRecordedStagesAreSaidAgainAndReported() async throws {
        let bundle = try Self.recordings.get().bundle.url.path
        let file = try place("result.json")
        let run = await Self.run(
            "verify", bundle, "--goldens", Recordings.committed.path, "--unchecked", "--json", file)
        XCTAssertEqual(run.code, 0, run.messages)
        let json = try JSONValue(parsing: Data(contentsOf: URL(fileURLWithPath: file)))
        XCTAssertEqual(json["runtime"], .string("recorded"))
        XCTAssertEqual(json["machine"]?["system"], .string(Self.system))
        guard case .array(let units) = json["units"], case .array(let cases) = units[0]["cases"]
        else { return XCTFail("no cases") }
        XCTAssertEqual(cases.count, try Self.recordings.get().all.count)
        for said in cases {
            XCTAssertEqual(said["error"], .null)
            XCTAssertEqual(said["metrics"]?["audio_snr_db"], .double(999))
            XCTAssertEqual(said["metrics"]?["duration_errors"], .double(0))
        }
        XCTAssertEqual(
            json["bundle"]?["manifest_sha256"],
            .string(try Self.recordings.get().folder.manifestSHA256))
    }

    func testRecordingsOfAnotherBundleAndChangedOnesAreRefused() async throws {
        let tiny = try TinyBundle()
        let other = await Self.run(
            "verify", tiny.url.path, "--goldens", Recordings.committed.path, "--unchecked")
        withExtendedLifetime(tiny) { XCTAssertEqual(other.code, 11) }
        XCTAssert(other.messages.contains("are of another bundle"), other.messages)
        let copy = URL(fileURLWithPath: try place("copy"))
        try FileManager.default.copyItem(at: Recordings.committed, to: copy)
        let file = copy.appendingPathComponent("short.json")
        try (Data(contentsOf: file) + Data(" ".utf8)).write(to: file)
        let changed = await Self.run(
            "verify", try Self.recordings.get().bundle.url.path, "--goldens", copy.path,
            "--unchecked")
        XCTAssertEqual(changed.code, 11)
        XCTAssert(changed.messages.contains("short.json is not what"), changed.messages)
    }

    func testADeviceThatComputesAsRecordedIsMeasuredAndItsFailureTold() async throws {
        let recordings = try Self.recordings.get()
        let file = try place("device.json")
        let run = await Self.run(
            "verify", recordings.bundle.url.path, "--goldens", Recordings.committed.path,
            "--unchecked", "--json", file, "--compute-units", "CPU_AND_NE",
            runtime: PlaybackRuntime(recordings: recordings.all))
        // the committed recordings hold digests where stages are to be fed
        XCTAssertEqual(run.code, 10)
        XCTAssert(run.messages.contains("by its digest alone"), run.messages)
        for said in ["Core ML has here: CPU\n", "CPU_AND_NE asks for NeuralEngine, which"] {
            XCTAssert(run.messages.contains(said), run.messages)
        }
        let json = try JSONValue(parsing: Data(contentsOf: URL(fileURLWithPath: file)))
        XCTAssertEqual(json["runtime"], .string("coreml"))
        guard case .array(let units) = json["units"], case .array(let stages) = units[0]["stages"],
            case .array(let devices) = units[0]["devices"],
            case .array(let timings) = units[0]["timings"]
        else { return XCTFail("no stages") }
        XCTAssertEqual(units[0]["compute_units"], .string("CPU_AND_NE"))
        XCTAssertEqual(stages.count, recordings.all.reduce(0) { $0 + $1.runs.count })
        XCTAssertEqual(devices.count, timings.count)
        XCTAssertEqual(devices[0]["device"], .string("CPU"))
    }
}

/// Lines of a console.
final class Lines: @unchecked Sendable {
    private let lock = NSLock()
    private var lines: [String] = []

    @Sendable func add(_ line: String) { lock.withLock { lines.append(line) } }

    var text: String { lock.withLock { lines.joined(separator: "\n") } }
}

/// A device that gives what was recorded.
struct PlaybackRuntime: DeviceRuntime {
    let devices = ["CPU"]
    let recordings: [Recording]

    func packages(
        of bundle: BundleFolder, on choice: UnitChoice, cache: URL?
    ) -> any DevicePackages { PlaybackPackages(stages: RecordedStages(recordings)) }
}

/// Its packages.
struct PlaybackPackages: DevicePackages {
    let stages: RecordedStages

    func runner(for place: PackagedFunction) async throws -> any FunctionRunner {
        try stages.runner(for: place)
    }

    func compile(_ package: Manifest.Package) async throws {}

    func plan(of place: PackagedFunction) async throws -> DevicePlan {
        let operation = DevicePlan.Operation(
            position: 2, name: "conv", opset: "ios18", outputs: ["y"], inside: nil, device: "CPU",
            supported: ["CPU"], cost: 0.5)
        return DevicePlan(operations: [operation], constants: 2, available: ["CPU"])
    }
}
