import Foundation
import KokoroBundle
import KokoroSynthesis
import SynthesisSupport

@testable import KokoroHarnessKit

/// Recordings of a bundle's tiny network, in the form that Python writes them in, arrays whole.
enum TinyRecordings {
    /// Says lines in memory and writes what every stage took and gave.
    static func write(
        of bundle: BundleFolder, saying lines: [String], to folder: URL
    ) async throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var files: [String: JSONValue] = [:]
        let keep = { (name: String, data: Data) in
            try data.write(to: folder.appendingPathComponent(name))
            files[name] = .table([
                "sha256": .string(ContentDigest.of(data)), "bytes": .count(data.count),
            ])
        }
        for name in ["manifest.json", "config.json"] {
            try keep(name, Data(contentsOf: bundle.url.appendingPathComponent(name)))
        }
        for (index, line) in lines.enumerated() {
            let json = try await recording("line-\(index)", line, bundle)
            try keep("line-\(index).json", Data(JSONText.document(json).utf8))
        }
        let index = JSONValue.table(["schema": .count(1), "files": .sorted(files)])
        try Data(JSONText.document(index).utf8).write(
            to: folder.appendingPathComponent("index.json"))
    }

    private static func recording(
        _ id: String, _ line: String, _ bundle: BundleFolder
    ) async throws -> JSONValue {
        let runs = Runs()
        let synthesizer = try KokoroSynthesizer(
            bundle: bundle, stages: TinyStages(), onStage: runs.add)
        let speech = try await synthesizer.synthesize(phonemes: line, voice: "first")
        let parts = try zip(speech.parts, runs.untilTails()).map { part, runs in
            JSONValue.table([
                "phonemes": .string(part.phonemes), "tokens": .count(part.bucket.tokens),
                "frames": .count(part.bucket.frames), "runs": .array(try runs.map(run)),
            ])
        }
        let samples = Tensor(speech.samples, shape: [speech.samples.count])
        let durations = Tensor(speech.durations, shape: [speech.durations.count])
        return .table([
            "schema": .count(1), "id": .string(id), "phonemes": .string(line),
            "voice": .string("first"), "speed": .double(1), "parts": .array(parts),
            "speech": .table([
                "samples": try array("samples", samples),
                "durations": try array("durations", durations),
                "timestamps": .array(speech.timestamps.map(timestamp)),
                "parts": .array(speech.parts.map { .count($0.samples.count) }),
            ]),
        ])
    }

    private static func run(_ run: StageRun) throws -> JSONValue {
        let arrays = { (tensors: [String: Tensor]) in
            JSONValue.array(
                try tensors.sorted { $0.key < $1.key }.map { try array($0.key, $0.value) })
        }
        return .table([
            "package": .string(run.place.package.file), "stage": .string(run.stage),
            "function": .string(run.place.function.name), "inputs": try arrays(run.inputs),
            "outputs": try arrays(run.outputs),
        ])
    }

    private static func array(_ name: String, _ tensor: Tensor) throws -> JSONValue {
        let bytes = try tensor.storage.bytes()
        return .table([
            "name": .string(name), "dtype": .string(tensor.type.rawValue),
            "shape": .array(tensor.shape.map(JSONValue.count)),
            "sha256": .string(ContentDigest.of(bytes)),
            "data": .string(bytes.base64EncodedString()),
        ])
    }

    private static func timestamp(_ mark: Timestamp) -> JSONValue {
        .array([.text(mark.phoneme.map { String($0) }), .double(mark.start), .double(mark.end)])
    }

    /// The stages that ran.
    private final class Runs: @unchecked Sendable {
        private let lock = NSLock()
        private var all: [StageRun] = []

        @Sendable func add(_ run: StageRun) { lock.withLock { all.append(run) } }

        /// The runs of each part, which end with its tail.
        func untilTails() -> [[StageRun]] {
            lock.withLock {
                all.reduce(into: [[]]) { parts, run in
                    if parts[parts.count - 1].last?.stage == "Tail" { parts.append([]) }
                    parts[parts.count - 1].append(run)
                }
            }
        }
    }
}
