import Foundation
import KokoroBundle

/// A command of `kokoro-harness`.
protocol HarnessCommand: Sendable {
    /// What may be typed behind its name.
    var grammar: CommandGrammar { get }

    /// Does it.
    ///
    /// - Throws: `KokoroError`, whose exit code the process leaves with.
    func run(_ arguments: CommandArguments, _ console: Console) async throws
}

/// The command line `kokoro-harness`.
public struct Harness: Sendable {
    /// Version of this package, which is that of `kokoro-coreml`.
    public static let version = "0.1.0"
    /// Exit code of a defect of this package.
    private static let defect: Int32 = 1
    /// Exit code of an interruption.
    private static let interrupted: Int32 = 130

    private let commands: [any HarnessCommand]
    private let console: Console

    /// The command line.
    ///
    /// - Parameters:
    ///   - runtime: what runs packages; nil where there is no Core ML.
    ///   - console: where it writes.
    public init(runtime: (any DeviceRuntime)?, console: Console = .standard) {
        commands = [
            CheckCommand(), VoicesCommand(), SayCommand(runtime: runtime),
            VerifyCommand(runtime: runtime), BenchCommand(runtime: runtime),
            PlanCommand(runtime: runtime),
        ]
        self.console = console
    }

    /// The command line with what this system has.
    public static var standard: Harness { Harness(runtime: DeviceRuntimes.available) }

    /// Does what was typed.
    ///
    /// - Parameter words: behind the program's name.
    /// - Returns: the exit code; the README lists them.
    public func main(_ words: [String]) async -> Int32 {
        do {
            try await run(words)
            return 0
        } catch let error as KokoroError {
            console.message("kokoro-harness: \(error.title): \(error.message)")
            return error.exitCode
        } catch is CancellationError {
            console.message("kokoro-harness: interrupted")
            return Self.interrupted
        } catch {
            console.message("kokoro-harness: a defect: \(error)")
            return Self.defect
        }
    }

    private func run(_ words: [String]) async throws {
        guard let first = words.first else { return console.message(help) }
        if ["--help", "-h", "help"].contains(first) { return console.result(help) }
        if first == "--version" { return console.result("kokoro-harness \(Self.version)") }
        guard let command = commands.first(where: { $0.grammar.name == first }) else {
            let names = commands.map(\.grammar.name) + ["--help", "--version"]
            throw KokoroError.argument(
                "unknown command '\(first)'; \(nearest(first, of: names))")
        }
        let rest = Array(words.dropFirst())
        if rest.contains("--help") || rest.contains("-h") {
            return console.result(command.grammar.help)
        }
        try await command.run(command.grammar.parse(rest), console)
    }

    private var help: String {
        let width = commands.map(\.grammar.name.count).max() ?? 0
        let rows = commands.map { command in
            let name = command.grammar.name
            return "  \(name)\(String(repeating: " ", count: width - name.count + 2))"
                + command.grammar.summary
        }
        return
            (["kokoro-harness COMMAND ...", ""] + rows + [
                "", "kokoro-harness COMMAND --help shows the options; --version the version.",
            ]).joined(separator: "\n")
    }
}

/// What several commands do.
enum HarnessCommands {
    /// The runtime.
    ///
    /// - Throws: `KokoroError.package` where there is none.
    static func needed(
        _ runtime: (any DeviceRuntime)?, _ purpose: String
    ) throws -> any DeviceRuntime {
        guard let runtime else {
            throw KokoroError.package(
                "\(purpose) runs packages with Core ML, which only Apple's systems have; run it on "
                    + "a Mac. Without it work: check, voices, and verify --goldens")
        }
        return runtime
    }

    /// Says which processors there are, and which that are asked for there are not: Core ML says
    /// nothing when it takes another.
    static func tellDevices(
        _ runtime: any DeviceRuntime, _ choices: [UnitChoice], _ manifest: Manifest,
        _ console: Console
    ) {
        console.message("Core ML has here: \(runtime.devices.joined(separator: ", "))")
        for choice in choices {
            for device in choice.devices(for: manifest) where !runtime.devices.contains(device) {
                console.message(
                    "\(choice.name) asks for \(device), which Core ML does not have here: another "
                        + "processor takes its place")
            }
        }
    }

    /// Writes a text file, whole or not at all.
    ///
    /// - Throws: `KokoroError.bundle` if it cannot be written.
    static func write(_ text: String, to file: URL) throws {
        do {
            try Data(text.utf8).write(to: file, options: .atomic)
        } catch {
            throw KokoroError.bundle(
                "cannot write '\(file.path)': \(error.localizedDescription); choose another place")
        }
    }

    /// The bundle that is the first value of a command.
    static func bundle(_ arguments: CommandArguments) throws -> BundleFolder {
        try BundleFolder(
            URL(fileURLWithPath: arguments.positionals[0]),
            verifying: !arguments.has("--unchecked"))
    }

    /// A single choice of compute units, `bundle` if none is typed.
    static func choice(_ arguments: CommandArguments) throws -> UnitChoice {
        let names = try arguments.choices("--compute-units", of: UnitChoice.names)
        return names.first.flatMap(UnitChoice.init) ?? .bundle
    }

    static let unchecked = CommandOption(
        "--unchecked",
        help: "Do not compare the bundle's files, for one whose packages were compiled.")
    static let cache = CommandOption("--cache", "DIR", help: "Folder for compiled packages.")
}
