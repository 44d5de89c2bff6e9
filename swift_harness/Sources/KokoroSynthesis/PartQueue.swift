import KokoroBundle
import KokoroSignal

/// What is still to be said, part by part.
struct PartQueue: Sendable {
    private let speaker: any Speaker
    private let vocabulary: Vocabulary
    private let voice: VoicePack
    private let speed: Float
    private var texts: ArraySlice<String>

    /// Splits a text where no bucket holds its tokens.
    ///
    /// - Throws: `KokoroError.phonemes` if a phoneme is unknown, a word alone is too long, or there
    ///   is nothing to say.
    init(
        _ phonemes: String, voice: VoicePack, speed: Float, vocabulary: Vocabulary,
        speaker: any Speaker
    ) throws {
        try vocabulary.requireKnown(phonemes)
        texts = try Splitting.split(phonemes, limit: speaker.longest)[...]
        guard !texts.isEmpty else {
            throw KokoroError.phonemes("the phonemes are white space; expected something to say")
        }
        self.voice = voice
        self.speed = speed
        self.vocabulary = vocabulary
        self.speaker = speaker
    }

    /// Says the next part: a text, or its first half where no bucket holds the speech.
    ///
    /// - Returns: nil where nothing is left.
    /// - Throws: `KokoroError.phonemes` if a single word does not fit, what the speaker throws.
    mutating func next() async throws -> SpokenPart? {
        while let text = texts.first {
            try Task.checkCancellation()
            do {
                let spoken = try await say(text)
                texts.removeFirst()
                return spoken
            } catch let overflow as KokoroError {
                guard case .frameOverflow = overflow else { throw overflow }
                let (left, right) = try halves(text, overflow)
                texts = [left, right] + texts.dropFirst()
            }
        }
        return nil
    }

    private func say(_ text: String) async throws -> SpokenPart {
        let utterance = Utterance(
            ids: try vocabulary.encode(text),
            style: try voice.row(phonemeCount: text.unicodeScalars.count), speed: speed)
        let spoken = try await speaker.speak(utterance)
        return SpokenPart(
            phonemes: text, samples: spoken.samples, durations: spoken.durations,
            bucket: spoken.bucket)
    }

    private func halves(_ text: String, _ overflow: KokoroError) throws -> (String, String) {
        do {
            return try Splitting.halves(text)
        } catch let single as KokoroError {
            throw KokoroError.phonemes("\(overflow.message); \(single.message)")
        }
    }
}
