import KokoroBundle

/// A stretch of a text that was said at once.
public struct SpokenPart: Sendable, Equatable {
    /// What was said.
    public let phonemes: String
    /// Samples, 1.0 being full scale; without the bucket's padding.
    public let samples: [Float]
    /// Frames per token, boundary tokens included.
    public let durations: [Int32]
    /// The shape it was said at.
    public let bucket: Bucket

    /// A part; units as those of the properties.
    public init(phonemes: String, samples: [Float], durations: [Int32], bucket: Bucket) {
        self.phonemes = phonemes
        self.samples = samples
        self.durations = durations
        self.bucket = bucket
    }
}

/// What a network said.
public struct Speech: Sendable, Equatable {
    /// Samples, 1.0 being full scale.
    public let samples: [Float]
    /// Hz.
    public let sampleRate: Int
    /// One per token, without gaps.
    public let timestamps: [Timestamp]
    /// One, unless the text or its speech fitted no bucket.
    public let parts: [SpokenPart]

    /// Frames per token of all parts, boundary tokens included.
    public var durations: [Int32] { parts.flatMap(\.durations) }

    /// Length of the audio in seconds.
    public var seconds: Double { Double(samples.count) / Double(sampleRate) }

    /// One speech from its parts, one behind the other.
    ///
    /// Each part begins and ends in the silence of its boundary tokens, so nothing clicks where two
    /// meet and nothing is faded, which would change what the network said.
    ///
    /// - Parameters:
    ///   - parts: in the order they are heard, at least one.
    ///   - sampleRate: Hz, above 0.
    ///   - samplesPerFrame: length of a frame.
    /// - Throws: `KokoroError.argument` if there is no part, or a part's numbers of phonemes and
    ///   durations do not match.
    public init(joining parts: [SpokenPart], sampleRate: Int, samplesPerFrame: Int) throws {
        guard !parts.isEmpty, sampleRate > 0 else {
            throw KokoroError.argument(
                "speech needs at least one part and a sample rate above 0, found \(parts.count) "
                    + "parts at \(sampleRate) Hz")
        }
        var marks: [Timestamp] = []
        var start = 0.0
        for part in parts {
            let own = try Timestamp.marks(
                phonemes: part.phonemes, durations: part.durations,
                secondsPerFrame: Double(samplesPerFrame) / Double(sampleRate))
            marks += own.map { $0.shifted(by: start) }
            start += Double(part.samples.count) / Double(sampleRate)
        }
        self.samples = parts.flatMap(\.samples)
        self.sampleRate = sampleRate
        self.timestamps = marks
        self.parts = parts
    }
}
