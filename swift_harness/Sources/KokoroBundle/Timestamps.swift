/// When one token is heard.
public struct Timestamp: Sendable, Equatable {
    /// The phoneme, one code point; nil for the silence of a boundary token, in front of and behind
    /// the phonemes.
    public let phoneme: Unicode.Scalar?
    /// Seconds from the beginning of the audio.
    public let start: Double
    /// Seconds from the beginning of the audio.
    public let end: Double

    /// A mark; times in seconds.
    public init(phoneme: Unicode.Scalar?, start: Double, end: Double) {
        self.phoneme = phoneme
        self.start = start
        self.end = end
    }

    /// The same mark in audio that begins `seconds` earlier.
    public func shifted(by seconds: Double) -> Timestamp {
        Timestamp(phoneme: phoneme, start: seconds + start, end: seconds + end)
    }

    /// When each token of a stretch of speech is heard, without gaps.
    ///
    /// - Parameters:
    ///   - phonemes: what was said.
    ///   - durations: frames per token, boundary tokens included: two more than phonemes.
    ///   - secondsPerFrame: length of a frame.
    /// - Returns: one mark per duration.
    /// - Throws: `KokoroError.argument` if the numbers of phonemes and durations do not match.
    public static func marks(
        phonemes: String, durations: [Int32], secondsPerFrame: Double
    ) throws -> [Timestamp] {
        let tokens = [nil] + phonemes.unicodeScalars.map(Optional.some) + [nil]
        guard tokens.count == durations.count else {
            throw KokoroError.argument(
                "\(durations.count) durations for \(tokens.count - Vocabulary.boundaryTokens) "
                    + "phonemes; expected \(tokens.count), with the boundary tokens")
        }
        var frames = 0
        return zip(tokens, durations).map { phoneme, duration in
            let start = Double(frames) * secondsPerFrame
            frames += Int(duration)
            return Timestamp(
                phoneme: phoneme, start: start, end: Double(frames) * secondsPerFrame)
        }
    }
}
