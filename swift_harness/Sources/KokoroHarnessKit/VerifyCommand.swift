import Foundation
import KokoroBundle
import KokoroGoldens
import KokoroRecordings
import KokoroSynthesis

/// `verify`: golden files of functions, recorded runs of stages, and recorded utterances.
struct VerifyCommand: HarnessCommand {
    private static let runtimes = ["coreml", "recorded"]

    let runtime: (any DeviceRuntime)?

    let grammar = CommandGrammar(
        name: "verify",
        summary: "Compares a bundle on this machine with what Python recorded of it. It measures; "
            + "`kokoro-coreml verify --merge` judges.",
        positionals: ["BUNDLE"],
        options: [
            CommandOption(
                "--goldens", "DIR",
                help: "Golden files of functions, recordings of the bundle, or both."),
            CommandOption("--json", "FILE", help: "Write the result here."),
            CommandOption(
                "--compute-units", "UNITS",
                help: "ALL, CPU_ONLY, CPU_AND_GPU, CPU_AND_NE or bundle; all but bundle.",
                isRepeatable: true),
            CommandOption(
                "--runtime", "RUNTIME",
                help: "coreml, or recorded: play the stages back; coreml where there is one."),
            CommandOption("--cache", "DIR", help: "Folder for compiled packages."),
            CommandOption("--unchecked", help: "Do not compare the bundle's files."),
        ])

    func run(_ arguments: CommandArguments, _ console: Console) async throws {
        let goldens = URL(fileURLWithPath: try arguments.needed("--goldens"))
        let bundle = try BundleFolder(
            URL(fileURLWithPath: arguments.positionals[0]),
            verifying: !arguments.has("--unchecked"))
        let runtime = try chosenRuntime(arguments)
        let (functions, folder) = try Self.sources(goldens)
        let checks = try functions.map(Self.check) ?? []
        let problems = checks.flatMap(\.failures)
        problems.forEach(console.message)
        console.message("\(checks.count) functions checked, \(problems.count) cases wrong")
        guard let folder else {
            guard arguments.url("--json") == nil else {
                throw KokoroError.bundle(
                    "'\(goldens.path)' holds no recordings, without which there is no result to "
                        + "write; record the bundle with kokoro-coreml goldens BUNDLE --out DIR")
            }
            return try Self.end(problems, console)
        }
        let report = VerifyReport(
            bundle: bundle, recordings: try RecordingFolder(folder), functions: checks,
            runtime: runtime, console: console)
        let units = try choices(arguments, runtime)
        if let runtime {
            HarnessCommands.tellDevices(runtime, units, bundle.manifest, console)
        }
        let found = try await report.measured(on: units, cache: arguments.url("--cache"))
        if let file = arguments.url("--json") { try Self.write(found.json, to: file) }
        try Self.end(problems + found.problems, console)
    }

    private func chosenRuntime(_ arguments: CommandArguments) throws -> (any DeviceRuntime)? {
        let named = try arguments.choices("--runtime", of: Self.runtimes).first
        if named == "recorded" || (named == nil && runtime == nil) {
            guard !arguments.has("--compute-units") else {
                if named == nil {
                    _ = try HarnessCommands.needed(runtime, "verify --compute-units")
                }
                throw KokoroError.argument("--runtime recorded takes no --compute-units")
            }
            return nil
        }
        return try HarnessCommands.needed(runtime, "verify --runtime coreml")
    }

    private func choices(
        _ arguments: CommandArguments, _ runtime: (any DeviceRuntime)?
    ) throws -> [UnitChoice] {
        guard runtime != nil else { return [.bundle] }
        let names = try arguments.choices("--compute-units", of: UnitChoice.names)
        let wanted = names.isEmpty ? Array(UnitChoice.names.dropFirst()) : names
        return wanted.compactMap(UnitChoice.init)
    }

    /// Golden files of functions and the folder of recordings, whichever there are.
    private static func sources(_ goldens: URL) throws -> (GoldenFolder?, URL?) {
        if RecordingFolder.exists(at: goldens) { return (nil, goldens) }
        let inside = goldens.appendingPathComponent("recordings")
        return (try GoldenFolder(goldens), RecordingFolder.exists(at: inside) ? inside : nil)
    }

    private static func check(_ folder: GoldenFolder) throws -> [FunctionCheck] {
        let known = try PortableFunctions.all(for: folder)
        let unknown = folder.functions.filter { name in !known.contains { $0.name == name } }
        guard unknown.isEmpty else {
            throw KokoroError.bundle(
                "'\(folder.url.path)' holds functions that this version does not know: "
                    + unknown.joined(separator: ", "))
        }
        return try known.map { function in
            let found = try function.check(in: folder)
            return FunctionCheck(
                name: function.name, cases: found.cases, failures: found.failures)
        }
    }

    private static func write(_ json: JSONValue, to file: URL) throws {
        try HarnessCommands.write(JSONText.document(json), to: file)
    }

    private static func end(_ problems: [String], _ console: Console) throws {
        guard problems.isEmpty else {
            throw KokoroError.parity(
                "\(problems.count) things are not as Python recorded them, the first: "
                    + problems[0])
        }
        console.result("verify: everything was run and measured")
    }
}

/// The golden file of one function.
struct FunctionCheck: Sendable {
    let name: String
    let cases: Int
    let failures: [String]

    /// As `parity/harness.py` reads it.
    var json: JSONValue {
        .table([
            "name": .string(name), "cases": .count(cases),
            "failures": .array(failures.map(JSONValue.string)),
        ])
    }
}

/// The result of `verify`, schema version 1 of `parity/harness.py`.
struct VerifyReport {
    private static let schemaVersion = 1

    let bundle: BundleFolder
    let recordings: RecordingFolder
    let functions: [FunctionCheck]
    /// nil plays the recorded stages back.
    let runtime: (any DeviceRuntime)?
    let console: Console

    /// Measures on every choice of compute units.
    ///
    /// - Throws: `KokoroError.bundle` if the recordings are of another bundle.
    func measured(
        on choices: [UnitChoice], cache: URL?
    ) async throws -> (json: JSONValue, problems: [String]) {
        let manifest = try ContentDigest.of(
            fileAt: bundle.url.appendingPathComponent(Manifest.fileName))
        guard manifest == recordings.manifestSHA256 else {
            throw KokoroError.bundle(
                "the recordings are of another bundle (manifest \(recordings.manifestSHA256), this "
                    + "one's is \(manifest)); record this one")
        }
        var (units, problems, arrays): ([JSONValue], [String], HeldArrays) = ([], [], HeldArrays())
        for choice in choices {
            let stages: any StageProvider =
                runtime?.packages(of: bundle, on: choice, cache: cache)
                ?? RecordedStages(recordings.all)
            let unit = VerifyUnit(
                bundle: bundle, recordings: recordings.all, choice: choice, stages: stages,
                isDevice: runtime != nil, console: console)
            let found = try await unit.run(&arrays)
            units.append(found.json)
            problems += found.problems
        }
        return (json(manifest, units, arrays), problems)
    }

    private func json(
        _ manifest: String, _ units: [JSONValue], _ arrays: HeldArrays
    ) -> JSONValue {
        .table([
            "schema_version": .count(Self.schemaVersion),
            "harness_version": .string(Harness.version),
            "runtime": .string(runtime == nil ? "recorded" : "coreml"),
            "machine": MachineFacts.current.json,
            "versions": .table(["swift": .string(SwiftVersion.name)]),
            "bundle": .table([
                "name": .string(bundle.url.standardizedFileURL.lastPathComponent),
                "recipe": .string(bundle.manifest.recipe.name),
                "manifest_sha256": .string(manifest),
            ]),
            "recordings": .table(["index_sha256": .string(recordings.indexSHA256)]),
            "functions": .array(functions.map(\.json)), "units": .array(units),
            "arrays": arrays.json,
        ])
    }
}
