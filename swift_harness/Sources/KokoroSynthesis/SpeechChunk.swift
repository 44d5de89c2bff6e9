import KokoroBundle
import KokoroSignal

/// A stretch of speech that can be played while the next one is computed.
public struct SpeechChunk: Sendable, Equatable {
    /// What was said, with samples and durations.
    public let part: SpokenPart
    /// Hz.
    public let sampleRate: Int
    /// Seconds of speech in front of it.
    public let start: Double
    /// One per token, without gaps, in seconds from the beginning of the whole speech; those of
    /// all chunks are those of `Speech`.
    public let timestamps: [Timestamp]

    /// Samples, 1.0 being full scale.
    public var samples: [Float] { part.samples }

    /// Length in seconds.
    public var seconds: Double { Double(part.samples.count) / Double(sampleRate) }
}
