import KokoroSynthesis

/// What the example speaks with: a synthesizer, or a stand-in for tests.
public protocol SpeechSource: Sendable {
    /// Names of the voices; the first is the default.
    var voices: [String] { get }

    /// Says phonemes part by part; as `KokoroSynthesizer.stream`.
    ///
    /// - Parameters:
    ///   - phonemes: code points of the bundle's vocabulary.
    ///   - voice: a name out of `voices`; nil is the default voice.
    ///   - speed: 1 is the voice's own pace, 2 twice as fast.
    /// - Returns: chunks in the order they are heard.
    func stream(
        phonemes: String, voice: String?, speed: Double
    ) -> AsyncThrowingStream<SpeechChunk, any Error>
}

extension KokoroSynthesizer: SpeechSource {}
