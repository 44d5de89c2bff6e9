import Foundation
import KokoroBundle
import KokoroRecordings
import KokoroSignal
import KokoroSynthesis

/// Everything that is measured on one choice of compute units.
struct VerifyUnit {
    /// Values of an array that is kept where stages were played back: nobody judges by those.
    private static let mostPlayedBack = 1024

    let bundle: BundleFolder
    let recordings: [Recording]
    let choice: UnitChoice
    /// Opens the packages.
    let stages: any StageProvider
    /// Whether the packages run here, or what they gave was recorded.
    let isDevice: Bool
    let console: Console

    /// What was found, and what stood in the way.
    struct Found {
        var json: JSONValue = .null
        var problems: [String] = []
    }

    /// Runs all of it.
    func run(_ arrays: inout HeldArrays) async throws -> Found {
        var found = Found()
        let measured = isDevice ? try await stageMeasures(&found.problems) : []
        var (times, cases) = (FunctionTimes(), [JSONValue]())
        let log = RunLog(keeping: RunLog.needed)
        let synthesizer = try KokoroSynthesizer(
            bundle: bundle, stages: stages, memory: .onePerStage, onStage: log.observer)
        for recording in recordings {
            let (json, problem) = try await said(recording, synthesizer, log, &times, &arrays)
            cases.append(json)
            if let problem { found.problems.append(problem) }
        }
        found.json = .table([
            "compute_units": .string(choice.name), "stages": .array(measured),
            "cases": .array(cases), "timings": times.json(choice),
            "devices": .array(await devices(times)),
        ])
        return found
    }

    // MARK: stage by stage

    private func stageMeasures(_ problems: inout [String]) async throws -> [JSONValue] {
        var measured: [JSONValue] = []
        let loaded = WarmRunners(stages: stages)
        for recording in recordings {
            for (part, runs) in recording.partRuns.enumerated() {
                for (place, run) in runs.enumerated() {
                    let (json, problem) = try await measure(run, loaded)
                    let name = "\(recording.id), part \(part), \(run.package):\(run.function)"
                    if let problem { problems.append("\(name) on \(choice.name): \(problem)") }
                    guard case .object(var table) = json else { continue }
                    table["case"] = .string(recording.id)
                    table["part"] = .count(part)
                    table["run"] = .count(place)
                    measured.append(.object(table))
                }
            }
        }
        return measured
    }

    private func measure(
        _ run: RecordedRun, _ loaded: WarmRunners
    ) async throws -> (json: JSONValue, problem: String?) {
        var (snr, seconds, problem): ([String: JSONValue], Double?, String?) = ([:], nil, nil)
        do {
            let (outputs, lasted) = try await outputs(of: run, loaded)
            seconds = lasted
            snr = try StageComparison.signalToNoiseDB(recorded: run.outputs, outputs: outputs)
                .mapValues { .double(AudioMetrics.finite($0, .higher)) }
        } catch let error as KokoroError {
            problem = error.message
        }
        let json = JSONValue.table([
            "package": .string(run.package), "function": .string(run.function),
            "snr_db": .sorted(snr), "seconds": .number(seconds), "error": .text(problem),
        ])
        return (json, problem)
    }

    private func outputs(
        of run: RecordedRun, _ loaded: WarmRunners
    ) async throws -> ([String: Tensor], Double) {
        let unknown = run.inputs.first { !$0.isWhole }
        if let unknown {
            throw KokoroError.package(
                "'\(unknown.name)' was recorded by its digest alone; record the bundle again "
                    + "without --largest")
        }
        guard let place = bundle.manifest.place(package: run.package, function: run.function)
        else { throw KokoroError.package("the bundle has no \(run.package):\(run.function)") }
        let inputs = Dictionary(run.inputs.map { ($0.name, $0.tensor) }) { first, _ in first }
        let runner = try await loaded.runner(for: place, warmedBy: inputs)
        let clock = ContinuousClock()
        let start = clock.now
        let outputs = try await runner.predict(inputs)
        return (outputs, (clock.now - start).inSeconds)
    }

    // MARK: from phonemes to samples

    private func said(
        _ recording: Recording, _ synthesizer: KokoroSynthesizer, _ log: RunLog,
        _ times: inout FunctionTimes, _ arrays: inout HeldArrays
    ) async throws -> (json: JSONValue, problem: String?) {
        var (metrics, parts): (JSONValue, [JSONValue]) = (.sorted([:]), [])
        var (seconds, problem): (Double?, String?) = (nil, nil)
        let clock = ContinuousClock()
        let start = clock.now
        do {
            let speech = try await synthesizer.synthesize(
                phonemes: recording.phonemes, voice: recording.voice, speed: recording.speed)
            seconds = (clock.now - start).inSeconds
            let entries = log.taken()
            entries.forEach { times.add($0) }
            parts = try self.parts(of: speech, entries, &arrays)
            metrics = try self.metrics(of: speech, recording)
            if !isDevice { problem = try difference(of: speech, recording) }
        } catch let error as KokoroError {
            _ = log.taken()
            problem = error.message
        }
        let name = "\(recording.id) on \(choice.name)"
        console.message(problem.map { "\(name): \($0)" } ?? "\(name): said")
        let json = JSONValue.table([
            "id": .string(recording.id), "metrics": metrics, "parts": .array(parts),
            "seconds": .number(seconds), "error": .text(problem),
        ])
        return (json, problem.map { "\(name): \($0)" })
    }

    private func metrics(of speech: Speech, _ recording: Recording) throws -> JSONValue {
        let durations = Levels.durationErrors(
            reference: try recording.durations.tensor.int32s(), candidate: speech.durations)
        let audio = AudioMetrics(
            reference: try recording.spokenSamples(), candidate: speech.samples,
            sampleRate: speech.sampleRate)
        var table = ["duration_errors": JSONValue.double(Double(durations))]
        for (name, value) in audio.values {
            table[name] = .double(AudioMetrics.finite(value, AudioMetrics.better(name)))
        }
        return .sorted(table)
    }

    /// What is not as it was recorded, where the stages themselves were: nil if nothing is.
    private func difference(of speech: Speech, _ recording: Recording) throws -> String? {
        let samples = ContentDigest.of(LittleEndian.bytes(speech.samples))
        if samples != recording.samples.sha256 { return "the samples are not those recorded" }
        if speech.timestamps != recording.timestamps { return "the timestamps are others" }
        let durations = try recording.durations.tensor.int32s()
        return speech.durations == durations ? nil : "the durations are others"
    }

    /// The parts of a speech with the values of the runs that made them. Runs whose speech fitted
    /// no bucket made none.
    private func parts(
        of speech: Speech, _ entries: [RunLog.Entry], _ arrays: inout HeldArrays
    ) throws -> [JSONValue] {
        var (made, values): ([[String: Tensor]], [String: Tensor]) = ([], [:])
        for entry in entries {
            values.merge(entry.values) { _, new in new }
            if try isLast(entry) {
                made.append(values)
                values = [:]
            }
        }
        guard made.count == speech.parts.count else {
            throw KokoroError.parity(
                "\(made.count) utterances were run to their end for \(speech.parts.count) parts")
        }
        return try zip(speech.parts, made).map { part, values in
            var digests: [String: JSONValue] = [:]
            for (name, tensor) in values {
                guard isDevice || tensor.count <= Self.mostPlayedBack else { continue }
                digests[name] = try arrays.hold(tensor).map(JSONValue.string)
            }
            return .table([
                "phonemes": .string(part.phonemes), "tokens": .count(part.bucket.tokens),
                "frames": .count(part.bucket.frames), "values": .sorted(digests),
            ])
        }
    }

    private func isLast(_ entry: RunLog.Entry) throws -> Bool {
        if entry.stage == PipelineStage.tail.rawValue { return true }
        guard let length = entry.values["audio_length_samples"], let audio = entry.values["audio"]
        else { return false }
        return Int(try length.int32s().first ?? 0) <= audio.count
    }

    // MARK: plans

    /// Where the functions that ran were meant to; as `DeviceUse` of `parity/results.py`.
    private func devices(_ times: FunctionTimes) async -> [JSONValue] {
        guard let packages = stages as? any DevicePackages else { return [] }
        var found: [JSONValue] = []
        for place in times.places {
            do {
                for share in try await packages.plan(of: place).summary {
                    found.append(
                        .table([
                            "package": .string(place.package.file),
                            "function": .string(place.function.name),
                            "compute_units": .string(choice.name), "device": .string(share.device),
                            "operations": .count(share.operations), "cost": .double(share.cost),
                        ]))
                }
            } catch {
                console.message("no device plan: \(error.localizedDescription)")
                return found
            }
        }
        return found
    }
}

/// Functions that have run once, so that what is timed is no first run. The last one of each
/// package is kept, since all buckets at once may need more memory than there is.
private actor WarmRunners {
    private let stages: any StageProvider
    private var kept: [String: any FunctionRunner] = [:]

    init(stages: any StageProvider) { self.stages = stages }

    /// The runner of a function, which has run on these inputs if it is new.
    ///
    /// - Throws: `KokoroError.package` if it cannot be loaded or run.
    func runner(
        for place: PackagedFunction, warmedBy inputs: [String: Tensor]
    ) async throws -> any FunctionRunner {
        if let known = kept[place.package.file], known.place == place { return known }
        kept[place.package.file] = nil
        let runner = try await stages.runner(for: place)
        _ = try await runner.predict(inputs)
        kept[place.package.file] = runner
        return runner
    }
}

extension Duration {
    /// The length in seconds.
    var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}

extension Manifest {
    /// A function by the names of its package and itself.
    func place(package: String, function: String) -> PackagedFunction? {
        functions.first { same($0.package.file, package) && same($0.function.name, function) }
    }

    /// Every function of every package.
    var functions: [PackagedFunction] {
        packages.flatMap { package in
            package.functions.map { PackagedFunction(package: package, function: $0) }
        }
    }
}
