import KokoroBundle

/// Which token is heard in which frame.
public struct Alignment: Sendable, Equatable {
    /// In `tokens`, a frame that no token lasts into.
    public static let none: Int32 = -1

    /// Index of the token of each frame, or `none` behind the speech.
    public let tokens: [Int32]
    /// 1 in each frame of speech, 0 behind it.
    public let mask: [Float]
    private let tokenCount: Int

    /// Lays durations out on an axis of frames.
    ///
    /// - Parameters:
    ///   - durations: frames per token, 0 for padding.
    ///   - frames: length of the axis; what lasts longer is cut off.
    /// - Throws: `KokoroError.argument` if a duration or the number of frames is negative.
    public init(durations: [Int32], frames: Int) throws {
        guard frames >= 0, durations.allSatisfy({ $0 >= 0 }) else {
            throw KokoroError.argument("durations and frames must not be negative")
        }
        var tokens: [Int32] = []
        tokens.reserveCapacity(frames)
        for (token, duration) in durations.enumerated() {
            let lasts = min(Int(duration), frames - tokens.count)
            tokens.append(contentsOf: repeatElement(Int32(token), count: lasts))
        }
        let spoken = tokens.count
        let silent = frames - spoken
        self.tokens = tokens + Array(repeating: Self.none, count: silent)
        mask = Array(repeating: 1, count: spoken) + Array(repeating: 0, count: silent)
        tokenCount = durations.count
    }

    /// One row per token, 1 in the frames it lasts and 0 in all others: row by row.
    public func matrix() -> [Float] {
        var values = [Float](repeating: 0, count: tokenCount * tokens.count)
        for (frame, token) in tokens.enumerated() where token != Self.none {
            values[Int(token) * tokens.count + frame] = 1
        }
        return values
    }
}
