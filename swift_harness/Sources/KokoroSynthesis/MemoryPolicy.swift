/// How many loaded functions a synthesizer keeps.
public enum MemoryPolicy: Sendable, Equatable {
    /// Every function that was loaded, so that no bucket is loaded twice.
    case keepAll
    /// One of each stage, the one that ran last: the least memory, but another bucket has to be
    /// loaded again.
    case onePerStage
}
