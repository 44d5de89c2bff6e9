import Foundation
import KokoroBundle

/// `check`: every file is as it was written.
struct CheckCommand: HarnessCommand {
    let grammar = CommandGrammar(
        name: "check", summary: "Compares every file of a bundle with its manifest.",
        positionals: ["BUNDLE"], options: [])

    func run(_ arguments: CommandArguments, _ console: Console) async throws {
        let bundle = try BundleFolder(URL(fileURLWithPath: arguments.positionals[0]))
        let bytes = bundle.manifest.files.entries.reduce(0) { $0 + $1.value.bytes }
        console.result(
            "\(bundle.manifest.files.count) files, \(bytes) bytes, all as they were written")
    }
}

/// `voices`: names of the voices.
struct VoicesCommand: HarnessCommand {
    let grammar = CommandGrammar(
        name: "voices", summary: "Lists the voices of a bundle, the default one first.",
        positionals: ["BUNDLE"], options: [HarnessCommands.unchecked])

    func run(_ arguments: CommandArguments, _ console: Console) async throws {
        try HarnessCommands.bundle(arguments).voices.forEach(console.result)
    }
}
