import Foundation
import KokoroBundle
import KokoroSynthesis

/// A fake of the stages that is backed by files: it gives what Python recorded for the same
/// function and the same inputs, bit for bit, and refuses inputs that were never seen.
public final class RecordedStages: StageProvider {
    /// Called in front of every run; may throw or wait.
    public typealias Hook = @Sendable (PackagedFunction) async throws -> Void

    private let runs: [RecordedRun]
    private let hook: Hook

    /// A fake of recorded runs.
    public init(_ recordings: [Recording], hook: @escaping Hook = { _ in }) {
        runs = recordings.flatMap(\.runs)
        self.hook = hook
    }

    /// A runner of a function.
    ///
    /// - Parameter place: one of the recorded bundle's.
    /// - Returns: what gives the recorded outputs.
    /// - Throws: `KokoroError.package` if no run of it was recorded.
    public func runner(for place: PackagedFunction) throws -> any FunctionRunner {
        let found = runs.filter {
            $0.package == place.package.file && $0.function == place.function.name
        }
        guard !found.isEmpty else {
            throw KokoroError.package(
                "no run of \(place.package.file):\(place.function.name) was recorded")
        }
        return Runner(place: place, runs: found, hook: hook)
    }

    private struct Runner: FunctionRunner {
        let place: PackagedFunction
        let runs: [RecordedRun]
        let hook: Hook

        func predict(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
            try await hook(place)
            let digests = try inputs.mapValues { try $0.sha256() }
            var nearest: [String]?
            for run in runs {
                let others = differences(run, inputs, digests)
                if others.isEmpty {
                    return Dictionary(
                        uniqueKeysWithValues: run.outputs.map { ($0.name, $0.tensor) })
                }
                if others.count < nearest?.count ?? .max { nearest = others }
            }
            throw KokoroError.package(
                "\(place.package.file):\(place.function.name) was never given these inputs; other "
                    + "than recorded: \((nearest ?? []).joined(separator: ", "))")
        }

        /// Names of inputs that are not those of a run.
        private func differences(
            _ run: RecordedRun, _ inputs: [String: Tensor], _ digests: [String: String]
        ) -> [String] {
            let names = Set(run.inputs.map(\.name))
            let wrong = run.inputs.filter { recorded in
                guard let tensor = inputs[recorded.name] else { return true }
                return tensor.type != recorded.tensor.type
                    || tensor.shape != recorded.tensor.shape
                    || digests[recorded.name] != recorded.sha256
            }
            return wrong.map(\.name) + inputs.keys.filter { !names.contains($0) }.sorted()
        }
    }
}
