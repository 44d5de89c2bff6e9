import Foundation
import KokoroBundle
import KokoroSynthesis

/// The stages that ran, with what a judge needs of their outputs.
final class RunLog: @unchecked Sendable {
    /// One run.
    struct Entry: Sendable {
        let stage: String
        let place: PackagedFunction
        let seconds: Double
        let loadSeconds: Double
        /// Outputs that `kept` names.
        let values: [String: Tensor]
    }

    /// What Python measures an utterance by, with the audio, its length and the durations.
    static let needed: Set<String> = [
        "pred_dur", "f0", "curves", "levels", "asr", "har", "audio", "audio_length_samples",
    ]

    private let kept: Set<String>
    private let lock = NSLock()
    private var entries: [Entry] = []

    /// A log that keeps the outputs of these names.
    init(keeping kept: Set<String> = []) { self.kept = kept }

    /// What to give a synthesizer.
    var observer: StageObserver {
        { run in
            self.append(
                Entry(
                    stage: run.stage, place: run.place, seconds: run.seconds,
                    loadSeconds: run.loadSeconds,
                    values: run.outputs.filter { self.kept.contains($0.key) }))
        }
    }

    /// The runs since the last time.
    func taken() -> [Entry] {
        lock.withLock {
            defer { entries = [] }
            return entries
        }
    }

    private func append(_ entry: Entry) { lock.withLock { entries.append(entry) } }
}

/// Runs of functions, as reports hold them.
struct FunctionTimes: Sendable {
    /// Functions in the order they first ran.
    private(set) var places: [PackagedFunction] = []
    private var loads: [Double] = []
    private var runs: [[Double]] = []

    /// Adds a run.
    mutating func add(_ entry: RunLog.Entry) {
        guard let place = places.firstIndex(of: entry.place) else {
            places.append(entry.place)
            loads.append(entry.loadSeconds)
            runs.append([entry.seconds])
            return
        }
        runs[place].append(entry.seconds)
    }

    /// Seconds of every run of a function.
    func seconds(of place: PackagedFunction) -> [Double] {
        places.firstIndex(of: place).map { runs[$0] } ?? []
    }

    /// As `PackageTiming` of `parity/results.py`.
    func json(_ choice: UnitChoice) -> JSONValue {
        .array(
            places.indices.map { index in
                .table([
                    "package": .string(places[index].package.file),
                    "function": .string(places[index].function.name),
                    "compute_units": .string(choice.name), "load_seconds": .double(loads[index]),
                    "run_seconds": .array(runs[index].map(JSONValue.double)),
                    "eager_seconds": .array([]),
                ])
            })
    }
}
