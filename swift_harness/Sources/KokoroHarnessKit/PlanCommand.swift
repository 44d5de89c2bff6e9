import Foundation
import KokoroBundle

/// `plan`: where Core ML means to run each operation, as `kokoro-coreml inspect --plan` reads it.
struct PlanCommand: HarnessCommand {
    private static let schemaVersion = 1

    let runtime: (any DeviceRuntime)?

    let grammar = CommandGrammar(
        name: "plan",
        summary: "Writes Core ML's plan of each function, for kokoro-coreml inspect --plan.",
        positionals: ["BUNDLE"],
        options: [
            CommandOption("--out", "DIR", help: "Folder for the plans, one file per function."),
            CommandOption("--stage", "STAGE", help: "Only this stage, such as Decoder."),
            CommandOption("--function", "NAME", help: "Only this function, such as frames_256."),
            CommandOption(
                "--compute-units", "UNITS",
                help: "ALL, CPU_ONLY, CPU_AND_GPU, CPU_AND_NE or bundle: as each package asks."),
            HarnessCommands.cache, HarnessCommands.unchecked,
        ])

    func run(_ arguments: CommandArguments, _ console: Console) async throws {
        let out = URL(fileURLWithPath: try arguments.needed("--out"))
        let choice = try HarnessCommands.choice(arguments)
        let bundle = try HarnessCommands.bundle(arguments)
        let places = try Self.places(of: bundle.manifest, arguments)
        let runtime = try HarnessCommands.needed(runtime, "plan")
        HarnessCommands.tellDevices(runtime, [choice], bundle.manifest, console)
        let packages = runtime.packages(of: bundle, on: choice, cache: arguments.url("--cache"))
        try Self.makeFolder(out)
        for place in places {
            let units = choice.units(for: place.package)
            let plan = try await packages.plan(of: place)
            let json = try Self.json(plan, of: place, in: bundle.manifest, units: units)
            let name = "\(Self.stem(place.package)).\(place.function.name).\(units.rawValue).json"
            try HarnessCommands.write(
                JSONText.document(json), to: out.appendingPathComponent(name))
            let shares = plan.summary.map { share in
                "\(share.device) \(share.operations) (\(Int((100 * share.cost).rounded())) %)"
            }
            console.result("\(name): \(shares.joined(separator: ", "))")
        }
    }

    /// A plan in the format of `coreml/plan.py`.
    ///
    /// - Throws: `KokoroError.bundle` if the manifest lists no specification of the package.
    static func json(
        _ plan: DevicePlan, of place: PackagedFunction, in manifest: Manifest,
        units: Manifest.ComputeUnits
    ) throws -> JSONValue {
        let model = "\(place.package.file)/Data/com.apple.CoreML/model.mlmodel"
        guard let file = manifest.files[model] else {
            throw KokoroError.bundle("the manifest lists no '\(model)'")
        }
        let machine = MachineFacts.current
        return .table([
            "schema_version": .count(schemaVersion), "project_version": .string(Harness.version),
            "package": .string((place.package.file as NSString).lastPathComponent),
            "model_sha256": .string(file.sha256), "function": .string(place.function.name),
            "compute_units": .string(units.rawValue), "macos": .string(machine.systemVersion),
            "processor": .string(machine.processor),
            "coremltools": .string("none: kokoro-harness \(Harness.version)"),
            "available": .array(plan.available.map(JSONValue.string)),
            "constants": .count(plan.constants),
            "operations": .array(plan.operations.map(json)),
        ])
    }

    private static func json(_ operation: DevicePlan.Operation) -> JSONValue {
        .table([
            "position": .count(operation.position), "operator": .string(operation.name),
            "opset": .text(operation.opset),
            "outputs": .array(operation.outputs.map(JSONValue.string)),
            "inside": .text(operation.inside), "device": .text(operation.device),
            "supported": .array(operation.supported.map(JSONValue.string)),
            "cost": .number(operation.cost),
        ])
    }

    private static func places(
        of manifest: Manifest, _ arguments: CommandArguments
    ) throws -> [PackagedFunction] {
        let stages = manifest.packages.compactMap(\.stage)
        let stage = try arguments.choices("--stage", of: stages).first
        let names = Set(manifest.functions.map(\.function.name)).sorted()
        let function = try arguments.choices("--function", of: names).first
        let found = manifest.functions.filter { place in
            (stage == nil || place.package.stage == stage)
                && (function == nil || place.function.name == function)
        }
        guard !found.isEmpty else {
            throw KokoroError.argument("the stage has no such function; leave one of them out")
        }
        return found
    }

    private static func stem(_ package: Manifest.Package) -> String {
        ((package.file as NSString).lastPathComponent as NSString).deletingPathExtension
    }

    private static func makeFolder(_ url: URL) throws {
        do {
            try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        } catch {
            throw KokoroError.bundle(
                "cannot make the folder '\(url.path)': \(error.localizedDescription)")
        }
    }
}
