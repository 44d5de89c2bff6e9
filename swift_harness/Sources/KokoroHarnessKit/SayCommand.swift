import Foundation
import KokoroBundle
import KokoroSignal
import KokoroSynthesis

/// `say`: phonemes to a WAV file.
struct SayCommand: HarnessCommand {
    let runtime: (any DeviceRuntime)?

    let grammar = CommandGrammar(
        name: "say", summary: "Speaks with a bundle and writes a WAV file.",
        positionals: ["BUNDLE"],
        options: [
            CommandOption("--phonemes", "TEXT", help: "What to say."),
            CommandOption("--out", "FILE", help: "The WAV file."),
            CommandOption(
                "--voice", "VOICE",
                help: "A voice of the bundle or a blend such as 'af_heart*0.6+am_adam*0.4'."),
            CommandOption("--speed", "NUMBER", help: "1 is the voice's own pace."),
            CommandOption("--force", help: "Replace a file that exists."),
            CommandOption(
                "--compute-units", "UNITS",
                help: "ALL, CPU_ONLY, CPU_AND_GPU, CPU_AND_NE or bundle: as each package asks."),
            HarnessCommands.cache, HarnessCommands.unchecked,
        ])

    func run(_ arguments: CommandArguments, _ console: Console) async throws {
        let (phonemes, out) = (try arguments.needed("--phonemes"), try arguments.needed("--out"))
        let speed = try arguments.number("--speed") ?? 1
        let choice = try HarnessCommands.choice(arguments)
        let bundle = try HarnessCommands.bundle(arguments)
        let runtime = try HarnessCommands.needed(runtime, "say")
        let packages = runtime.packages(of: bundle, on: choice, cache: arguments.url("--cache"))
        let synthesizer = try KokoroSynthesizer(bundle: bundle, stages: packages)
        let clock = ContinuousClock()
        let start = clock.now
        let speech = try await synthesizer.synthesize(
            phonemes: phonemes, voice: arguments.text("--voice"), speed: speed)
        let seconds = (clock.now - start).inSeconds
        let file = try WaveFile(samples: speech.samples, sampleRate: speech.sampleRate)
        try file.write(to: URL(fileURLWithPath: out), replacing: arguments.has("--force"))
        if file.clippedSamples > 0 {
            console.message(
                "\(file.clippedSamples) of \(speech.samples.count) samples lie above full scale "
                    + "(peak \(Self.rounded(Double(file.peak)))) and were clipped")
        }
        console.result(
            "\(out): \(Self.rounded(speech.seconds)) s of speech in \(speech.parts.count) parts, "
                + "said in \(Self.rounded(seconds)) s, loading included")
    }

    private static func rounded(_ number: Double) -> String { String(format: "%.2f", number) }
}
