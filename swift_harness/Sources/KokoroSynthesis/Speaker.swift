import KokoroBundle

/// One thing to say at once.
struct Utterance: Sendable {
    /// Token ids, the boundary tokens included.
    let ids: [Int32]
    /// One row of a voice.
    let style: [Float]
    /// 1 is the voice's own pace.
    let speed: Float
}

/// What a converted network said.
struct Spoken: Sendable {
    /// Samples without the bucket's padding, 1.0 being full scale.
    let samples: [Float]
    /// Frames per token, boundary tokens included.
    let durations: [Int32]
    /// The shape it was said at.
    let bucket: Bucket
}

/// A cut of the network. Both say an utterance at the smallest bucket that holds it.
protocol Speaker: Sendable {
    /// Phonemes that the largest bucket holds.
    var longest: Int { get }

    /// Says it.
    ///
    /// - Throws: `KokoroError.phonemes` if no bucket holds the tokens, `.frameOverflow` if none
    ///   holds the speech, `.package` and `.parity` of a stage; `CancellationError`.
    func speak(_ utterance: Utterance) async throws -> Spoken

    /// Loads functions and runs each once; nil is every bucket of an axis.
    ///
    /// - Throws: `KokoroError.argument` if there is no such bucket, `.package` of a stage;
    ///   `CancellationError`.
    func prewarm(tokens: [Int]?, frames: [Int]?) async throws

    /// Lets go of what it holds besides the functions.
    func unload() async
}

/// Numbers of the architecture that no manifest holds.
enum Architecture {
    /// Harmonics of the source, the fundamental included.
    static let harmonics = 9
    /// Positions of the pitch per frame.
    static let pitchPerFrame = 2
}

extension Tensor {
    /// Starts of the harmonics as upstream has them.
    static var randomPhases: Tensor {
        Tensor(
            [Float](repeating: 0, count: Architecture.harmonics),
            shape: [1, Architecture.harmonics])
    }
}

/// The durations of an utterance's tokens.
///
/// - Parameters:
///   - tensor: what the network gave, with padding behind the tokens.
///   - count: of the tokens.
/// - Returns: one duration per token.
/// - Throws: `KokoroError.parity` if there are fewer, one is negative, or padding lasts.
func durations(_ tensor: Tensor, of count: Int) throws -> [Int32] {
    let all = try tensor.int32s()
    guard all.count >= count else {
        throw KokoroError.parity("the network gave \(all.count) durations for \(count) tokens")
    }
    guard all.dropFirst(count).allSatisfy({ $0 == 0 }) else {
        throw KokoroError.parity("the network gave durations to padding")
    }
    guard all.allSatisfy({ $0 >= 0 }) else {
        throw KokoroError.parity("the network gave a negative duration")
    }
    return Array(all.prefix(count))
}

/// The buckets of an axis that are asked for.
///
/// - Throws: `KokoroError.argument` if one does not exist.
func chosen(_ wanted: [Int]?, of sizes: [Int], _ axis: String) throws -> [Int] {
    guard let wanted else { return sizes }
    if let unknown = wanted.first(where: { !sizes.contains($0) }) {
        throw KokoroError.argument(
            "the bundle has no bucket of \(unknown) \(axis); it has: "
                + Set(sizes).sorted().map(String.init).joined(separator: ", "))
    }
    return wanted
}
