import KokoroBundle

/// One stage that has run, for whoever observes a synthesizer.
public struct StageRun: Sendable {
    /// `Encoder` to `Tail`; `Complete` for the cut `complete`.
    public let stage: String
    /// What ran, with its bucket.
    public let place: PackagedFunction
    /// What went in, by name.
    public let inputs: [String: Tensor]
    /// What came out, by name.
    public let outputs: [String: Tensor]
    /// Seconds that the prediction took.
    public let seconds: Double
    /// Seconds that loading took; close to 0 where the function was loaded before.
    public let loadSeconds: Double
}

/// Called after each stage, in the order they run; utterances that are spoken at the same time mix.
public typealias StageObserver = @Sendable (StageRun) -> Void
