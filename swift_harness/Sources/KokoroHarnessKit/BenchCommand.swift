import Foundation
import KokoroBundle
import KokoroSynthesis

/// `bench`: loads and runs on each choice of compute units, in the format of `bench.json`.
struct BenchCommand: HarnessCommand {
    private static let schemaVersion = 1
    private static let rounds = 3

    let runtime: (any DeviceRuntime)?

    let grammar = CommandGrammar(
        name: "bench",
        summary: "Measures loads, runs, utterances and memory, and writes bench.json.",
        positionals: ["BUNDLE"],
        options: [
            CommandOption(
                "--phonemes", "TEXT", help: "What to say; the bundle's sample by default.",
                isRepeatable: true),
            CommandOption(
                "--compute-units", "UNITS",
                help: "ALL, CPU_ONLY, CPU_AND_GPU, CPU_AND_NE or bundle; all five.",
                isRepeatable: true),
            CommandOption("--repeat", "N", help: "Rounds that count; 3."),
            CommandOption("--json", "FILE", help: "Write bench.json here."),
            HarnessCommands.unchecked,
        ])

    func run(_ arguments: CommandArguments, _ console: Console) async throws {
        let names = try arguments.choices("--compute-units", of: UnitChoice.names)
        let choices = (names.isEmpty ? UnitChoice.names : names).compactMap(UnitChoice.init)
        let rounds = try arguments.count("--repeat") ?? Self.rounds
        let bundle = try HarnessCommands.bundle(arguments)
        let lines = try Self.lines(arguments, bundle)
        let runtime = try HarnessCommands.needed(runtime, "bench")
        HarnessCommands.tellDevices(runtime, choices, bundle.manifest, console)
        var devices: [JSONValue] = []
        for choice in choices {
            // what was compiled for another choice would not be compiled again
            let cache = try ScratchFolder()
            let unit = BenchUnit(
                bundle: bundle, choice: choice, lines: lines, rounds: rounds, console: console)
            devices.append(
                await unit.json(runtime.packages(of: bundle, on: choice, cache: cache.url)))
            // the folder goes with its last use
            withExtendedLifetime(cache) {}
        }
        if let file = arguments.url("--json") {
            let report = Self.report(devices, rounds: rounds)
            try HarnessCommands.write(JSONText.document(report), to: file)
        }
        let failed = devices.filter { $0["verdict"] != .string("measured") }
        guard failed.isEmpty else {
            throw KokoroError.package("\(failed.count) choices of compute units were not measured")
        }
    }

    private static func lines(
        _ arguments: CommandArguments, _ bundle: BundleFolder
    ) throws -> [String] {
        let typed = arguments.texts("--phonemes")
        if !typed.isEmpty { return typed }
        guard let sample = bundle.manifest.sample else {
            throw KokoroError.argument("the bundle has no sample; give --phonemes")
        }
        return [sample.phonemes]
    }

    private static func report(_ devices: [JSONValue], rounds: Int) -> JSONValue {
        let machine = MachineFacts.current
        let missing = ["bundle", "utterances", "conversion"].map { what in
            JSONValue.table([
                "what": .string(what),
                "reason": .string("kokoro-harness measures a bundle on devices alone"),
            ])
        }
        return .table([
            "schema_version": .count(schemaVersion), "project_version": .string(Harness.version),
            "machine": .table([
                "system": .string("\(machine.system) \(machine.systemVersion)"),
                "processor": .string("\(machine.model) \(machine.processor)"),
                "cores": .count(machine.cores), "memory_bytes": .count(machine.memoryBytes),
                "load_average": .null,
            ]),
            "versions": .table([
                "kokoro-harness": .string(Harness.version), "swift": .string(SwiftVersion.name),
            ]),
            "threads": .count(machine.cores), "repeat": .count(rounds), "bundle": .null,
            "utterances": .null, "devices": .array(devices), "conversion": .null,
            "not_measured": .array(missing),
        ])
    }
}

extension JSONValue {
    /// A value of a table, nil where there is none or this is no table.
    subscript(name: String) -> JSONValue? {
        guard case .object(let table) = self else { return nil }
        return table[name]
    }
}

/// A temporary folder that is removed when it is released.
final class ScratchFolder: Sendable {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent(
        "kokoro-harness-\(UUID().uuidString)")

    init() throws {
        do {
            try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        } catch {
            throw KokoroError.bundle("no temporary folder: \(error.localizedDescription)")
        }
    }

    deinit { try? FileManager.default.removeItem(at: url) }
}
