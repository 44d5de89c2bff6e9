/// Plays samples, one stretch behind the other without a gap.
@MainActor
public protocol SpeechPlayer: AnyObject {
    /// Called when the system takes the output away, as for a telephone call; what was waiting is
    /// not played any more.
    var onInterruption: (@MainActor @Sendable () -> Void)? { get set }

    /// Puts samples behind those that wait already, and begins to play if nothing plays.
    ///
    /// - Parameters:
    ///   - samples: 1.0 being full scale, one channel.
    ///   - sampleRate: Hz.
    ///   - ended: called once they were heard; it may or may not be called after `stop`.
    /// - Throws: if nothing can be played now.
    func schedule(
        _ samples: [Float], sampleRate: Int, ended: @escaping @MainActor @Sendable () -> Void
    ) throws

    /// Is silent at once, and forgets what waits.
    func stop()
}
