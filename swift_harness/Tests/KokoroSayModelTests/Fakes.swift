import KokoroBundle
import KokoroSayModel
import KokoroSignal
import SynthesisSupport

@testable import KokoroSynthesis

/// Says what a test tells it to.
final class FakeSource: SpeechSource, @unchecked Sendable {
    struct Asked: Equatable {
        let phonemes: String
        let voice: String?
        let speed: Double
    }

    let voices: [String]
    private(set) var asked: [Asked] = []
    private(set) var taken = 0
    private var steps: [Result<SpeechChunk, any Error>]
    private let gate: Gate?

    /// The steps come one by one, each through the gate if there is one.
    init(
        _ steps: [Result<SpeechChunk, any Error>], voices: [String] = ["first", "second"],
        gate: Gate? = nil
    ) {
        self.steps = steps
        self.voices = voices
        self.gate = gate
    }

    func stream(
        phonemes: String, voice: String?, speed: Double
    ) -> AsyncThrowingStream<SpeechChunk, any Error> {
        asked.append(Asked(phonemes: phonemes, voice: voice, speed: speed))
        let queue = Queue(steps)
        return AsyncThrowingStream { [self] in
            await gate?.pass()
            try Task.checkCancellation()
            guard let step = await queue.next() else { return nil }
            taken += 1
            return try step.get()
        }
    }

    private actor Queue {
        private var steps: [Result<SpeechChunk, any Error>]

        init(_ steps: [Result<SpeechChunk, any Error>]) { self.steps = steps }

        func next() -> Result<SpeechChunk, any Error>? {
            steps.isEmpty ? nil : steps.removeFirst()
        }
    }
}

/// A chunk of one second whose samples are all one value.
func chunk(_ value: Float) -> Result<SpeechChunk, any Error> {
    let part = SpokenPart(
        phonemes: "a", samples: Array(repeating: value, count: 8), durations: [1, 1, 1],
        bucket: Bucket(tokens: 8, frames: 8))
    return .success(SpeechChunk(part: part, sampleRate: 8, start: 0, timestamps: []))
}

/// Plays when a test says so.
@MainActor
final class FakePlayer: SpeechPlayer {
    struct Deaf: Error {}

    var onInterruption: (@MainActor @Sendable () -> Void)?
    var isDeaf = false
    private(set) var scheduled: [Float] = []
    private(set) var rates: Set<Int> = []
    private(set) var stops = 0
    private var ends: [@MainActor @Sendable () -> Void] = []

    func schedule(
        _ samples: [Float], sampleRate: Int, ended: @escaping @MainActor @Sendable () -> Void
    ) throws {
        if isDeaf { throw Deaf() }
        scheduled.append(samples[0])
        rates.insert(sampleRate)
        ends.append(ended)
    }

    func stop() { stops += 1 }

    /// How many wait to be heard.
    var waiting: Int { ends.count }

    /// The first that waits is heard to its end.
    func hear() { ends.removeFirst()() }
}
