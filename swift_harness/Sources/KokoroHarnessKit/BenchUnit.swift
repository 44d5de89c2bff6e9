import Foundation
import KokoroBundle
import KokoroSynthesis

/// The measurements on one choice of compute units, as `DeviceResult` of `bench/results.py`.
struct BenchUnit {
    let bundle: BundleFolder
    let choice: UnitChoice
    /// Phonemes of what is said.
    let lines: [String]
    /// Rounds that count.
    let rounds: Int
    let console: Console

    /// Measures; what fails is told in the result.
    ///
    /// - Parameter packages: of the bundle, none of them loaded yet.
    /// - Returns: the result.
    func json(_ packages: any DevicePackages) async -> JSONValue {
        let base = MachineFacts.peakBytes
        do {
            let found = try await measured(packages)
            console.result(
                "\(choice.name): \(found.functions.count) functions, "
                    + "\(String(format: "%.1f", found.factor)) s of speech per second")
            return result(
                "measured", reason: nil, functions: found.functions, cases: found.cases,
                factor: found.factor, base: base)
        } catch {
            console.message("\(choice.name): \(error.localizedDescription)")
            return result(
                "failed", reason: error.localizedDescription, functions: [], cases: [],
                factor: nil, base: base)
        }
    }

    private func result(
        _ verdict: String, reason: String?, functions: [JSONValue], cases: [JSONValue],
        factor: Double?, base: Int
    ) -> JSONValue {
        .table([
            "compute_units": .string(choice.name), "verdict": .string(verdict),
            "reason": .text(reason), "functions": .array(functions), "cases": .array(cases),
            "real_time_factor": .number(factor), "base_bytes": .count(base),
            "peak_bytes": .count(MachineFacts.peakBytes),
        ])
    }

    private func measured(
        _ packages: any DevicePackages
    ) async throws -> (functions: [JSONValue], cases: [JSONValue], factor: Double) {
        let timed = TimedPackages(packages: packages)
        let log = RunLog()
        let synthesizer = try KokoroSynthesizer(
            bundle: bundle, stages: timed, onStage: log.observer)
        var (times, cases) = (FunctionTimes(), [LineTimes]())
        for line in lines {
            cases.append(try await said(line, synthesizer, log, &times))
        }
        await synthesizer.unload()
        var functions: [JSONValue] = []
        for place in times.places {
            let warm = try await Self.seconds { _ = try await packages.runner(for: place) }
            let (compile, cold) = await timed.seconds(of: place)
            functions.append(
                function(
                    place, compile: compile, cold: cold ?? 0, warm: warm,
                    times.seconds(of: place)))
        }
        let audio = cases.reduce(0) { $0 + $1.audioSeconds }
        let spent = cases.reduce(0) { $0 + Spread($1.seconds).median }
        return (functions, cases.map(\.json), spent > 0 ? audio / spent : 0)
    }

    private func said(
        _ line: String, _ synthesizer: KokoroSynthesizer, _ log: RunLog,
        _ times: inout FunctionTimes
    ) async throws -> LineTimes {
        var (all, audio): ([Double], Double) = ([], 0)
        for _ in 0...rounds {
            all.append(
                try await Self.seconds {
                    audio = try await synthesizer.synthesize(phonemes: line).seconds
                })
            log.taken().forEach { times.add($0) }
        }
        return LineTimes(
            line: line, audioSeconds: audio, first: all[0], seconds: Array(all.dropFirst()))
    }

    private func function(
        _ place: PackagedFunction, compile: Double?, cold: Double, warm: Double, _ runs: [Double]
    ) -> JSONValue {
        .table([
            "package": .string(place.package.file), "function": .string(place.function.name),
            "compute_units": .string(choice.units(for: place.package).rawValue),
            "compile_seconds": .number(compile), "cold_load_seconds": .double(cold),
            "warm_load_seconds": .double(warm), "first_seconds": .number(runs.first),
            "run_seconds": Spread(Array(runs.dropFirst())).json,
        ])
    }

    private static func seconds(_ work: () async throws -> Void) async rethrows -> Double {
        let clock = ContinuousClock()
        let start = clock.now
        try await work()
        return (clock.now - start).inSeconds
    }

    /// One line and how long it took.
    private struct LineTimes {
        let line: String
        let audioSeconds: Double
        let first: Double
        let seconds: [Double]

        /// As `CaseTime` of `bench/results.py`; the tokens are phonemes and the two boundaries.
        var json: JSONValue {
            let spread = Spread(seconds)
            return .table([
                "case": .string(line),
                "tokens": .count(line.unicodeScalars.count + Vocabulary.boundaryTokens),
                "audio_seconds": .double(audioSeconds), "first_seconds": .double(first),
                "seconds": spread.json,
                "real_time_factor": .number(spread.median > 0 ? audioSeconds / spread.median : nil),
                "reason": .null,
            ])
        }
    }
}

/// Several measurements of one quantity, as `Spread` of `bench/results.py`.
struct Spread {
    let values: [Double]

    init(_ values: [Double]) { self.values = values }

    /// The middle one, or the mean of the two in the middle; 0 where there are none.
    var median: Double {
        let sorted = values.sorted()
        guard let last = sorted.last else { return 0 }
        let middle = sorted.count / 2
        if sorted.count == 1 { return last }
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    /// null where there are none.
    var json: JSONValue {
        guard let least = values.min(), let greatest = values.max() else { return .null }
        return .table([
            "values": .array(values.map(JSONValue.double)), "median": .double(median),
            "least": .double(least), "greatest": .double(greatest),
        ])
    }
}

/// Packages whose compilation and first loads are timed.
actor TimedPackages: StageProvider {
    private let packages: any DevicePackages
    private var compiled: [String: Double] = [:]
    private var loaded: [(place: PackagedFunction, seconds: Double)] = []

    init(packages: any DevicePackages) { self.packages = packages }

    /// Loads a function, its package being compiled apart.
    func runner(for place: PackagedFunction) async throws -> any FunctionRunner {
        let clock = ContinuousClock()
        let start = clock.now
        try await packages.compile(place.package)
        let between = clock.now
        let runner = try await packages.runner(for: place)
        let end = clock.now
        if compiled[place.package.file] == nil {
            compiled[place.package.file] = (between - start).inSeconds
        }
        if !loaded.contains(where: { $0.place == place }) {
            loaded.append((place, (end - between).inSeconds))
        }
        return runner
    }

    /// Seconds that compiling a function's package took, and the function's first load.
    func seconds(of place: PackagedFunction) -> (compile: Double?, load: Double?) {
        (compiled[place.package.file], loaded.first { $0.place == place }?.seconds)
    }
}
