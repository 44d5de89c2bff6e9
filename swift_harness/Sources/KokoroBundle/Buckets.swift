/// One static shape of a network, or of one axis of it.
public struct Bucket: Sendable, Hashable {
    /// Token ids it has room for, the boundary tokens included.
    public let tokens: Int
    /// Aligned frames it has room for.
    public let frames: Int

    /// A shape.
    public init(tokens: Int, frames: Int) {
        self.tokens = tokens
        self.frames = frames
    }
}

/// The buckets of the cut `pipeline`: the text chooses the tokens, the predicted durations choose
/// the frames.
public struct PipelineBuckets: Sendable, Equatable {
    /// Token buckets, rising.
    public let tokens: [Int]
    /// Frame buckets, rising.
    public let frames: [Int]
    /// Samples of one frame.
    public let samplesPerFrame: Int

    /// Buckets of both axes, in any order.
    public init(tokens: [Int], frames: [Int], samplesPerFrame: Int) {
        self.tokens = tokens.sorted()
        self.frames = frames.sorted()
        self.samplesPerFrame = samplesPerFrame
    }

    /// Phonemes that the largest token bucket holds, at most `maxPhonemes`.
    public func longest(maxPhonemes: Int) -> Int {
        min(maxPhonemes, (tokens.last ?? 0) - Vocabulary.boundaryTokens)
    }

    /// The smallest token bucket that holds `count` token ids.
    ///
    /// - Throws: `KokoroError.phonemes` if none does.
    public func tokenBucket(holding count: Int) throws -> Int {
        guard let found = tokens.first(where: { $0 >= count }) else {
            throw tooManyTokens(count, largest: tokens.last ?? 0)
        }
        return found
    }

    /// The smallest frame bucket that holds `count` frames.
    ///
    /// - Throws: `KokoroError.frameOverflow` if none does; `KokoroError.parity` if the count is
    ///   not above 0.
    public func frameBucket(holding count: Int) throws -> Int {
        guard count > 0 else {
            throw KokoroError.parity("the network gave \(count) frames of speech")
        }
        guard let found = frames.first(where: { $0 >= count }) else {
            throw KokoroError.frameOverflow(
                needed: count * samplesPerFrame, held: (frames.last ?? 0) * samplesPerFrame)
        }
        return found
    }
}

/// The buckets of the cut `complete`, which are tried from the quickest to the slowest: how long
/// the speech is becomes known by saying it.
public struct CompleteBuckets: Sendable, Equatable {
    /// Shapes by frames, then by tokens.
    public let shapes: [Bucket]
    /// Samples of one frame.
    public let samplesPerFrame: Int

    /// Shapes in any order.
    public init(shapes: [Bucket], samplesPerFrame: Int) {
        self.shapes = shapes.sorted { ($0.frames, $0.tokens) < ($1.frames, $1.tokens) }
        self.samplesPerFrame = samplesPerFrame
    }

    /// Phonemes that the largest bucket holds, at most `maxPhonemes`.
    public func longest(maxPhonemes: Int) -> Int {
        min(maxPhonemes, (shapes.map(\.tokens).max() ?? 0) - Vocabulary.boundaryTokens)
    }

    /// The first shape that holds `ids` token ids and `samples` of speech.
    ///
    /// - Parameters:
    ///   - ids: token ids, the boundary tokens included.
    ///   - samples: what an earlier, smaller shape found the speech to need; 0 at first.
    /// - Returns: one of `shapes`.
    /// - Throws: `KokoroError.phonemes` if no shape holds the ids, `KokoroError.frameOverflow` if
    ///   none of those that do holds the samples.
    public func bucket(holding ids: Int, samples: Int = 0) throws -> Bucket {
        let wide = shapes.filter { $0.tokens >= ids }
        guard let largest = wide.last else {
            throw tooManyTokens(ids, largest: shapes.map(\.tokens).max() ?? 0)
        }
        guard let found = wide.first(where: { $0.frames * samplesPerFrame >= samples }) else {
            throw KokoroError.frameOverflow(
                needed: samples, held: largest.frames * samplesPerFrame)
        }
        return found
    }
}

private func tooManyTokens(_ count: Int, largest: Int) -> KokoroError {
    .phonemes(
        "the text needs \(count) tokens, more than the largest bucket (\(largest)) holds; "
            + "split the text")
}
