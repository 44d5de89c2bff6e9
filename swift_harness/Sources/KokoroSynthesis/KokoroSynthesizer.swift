import KokoroBundle
import KokoroSignal

/// Speaks with a bundle's network: phonemes and a voice in, speech out.
///
/// Its methods may be called at the same time; each call speaks on its own, and a function that
/// several need is loaded once. What a bucket does not hold is split between sentences, clauses or
/// words; nothing is cut.
///
/// A cancelled task ends with `CancellationError`: that is looked for between the stages, so what
/// one stage has begun is finished first.
public actor KokoroSynthesizer {
    /// The bundle.
    public nonisolated let bundle: BundleFolder
    private let cache: RunnerCache
    private let speaker: any Speaker

    /// Prepares a bundle; nothing is loaded yet.
    ///
    /// - Parameters:
    ///   - bundle: with the cut `pipeline`, or else with `complete`.
    ///   - stages: opens the functions of its packages.
    ///   - memory: how many functions stay loaded.
    ///   - onStage: told of every stage that has run; it is called from any thread, and the
    ///     next stage waits for it.
    /// - Throws: `KokoroError.bundle` if the bundle holds no whole network.
    public init(
        bundle: BundleFolder, stages: any StageProvider, memory: MemoryPolicy = .keepAll,
        onStage: StageObserver? = nil
    ) throws {
        self.bundle = bundle
        cache = RunnerCache(provider: stages, policy: memory)
        let loader = StageLoader(cache: cache, observer: onStage)
        speaker =
            bundle.manifest.hasPipeline
            ? try PipelineSpeaker(bundle.manifest, loader: loader)
            : try CompleteSpeaker(bundle.manifest, loader: loader)
    }

    /// Names of the voices; the first is the default.
    public nonisolated var voices: [String] { bundle.voices }

    /// Hz of what is spoken.
    public nonisolated var sampleRate: Int { bundle.manifest.sampleRate }

    /// Says phonemes.
    ///
    /// - Parameters:
    ///   - phonemes: code points of the vocabulary.
    ///   - voice: a name out of `voices`, or a blend of several; nil is the default voice.
    ///   - speed: 1 is the voice's own pace, 2 twice as fast.
    /// - Returns: the speech of all parts.
    /// - Throws: `KokoroError.argument` if the speed is not a finite number above 0, `.voice`,
    ///   `.phonemes` if a phoneme is unknown or no bucket holds a single word or its speech,
    ///   `.package` if a stage cannot be run, `.parity` if it gives what cannot be;
    ///   `CancellationError` if the task was cancelled.
    public func synthesize(
        phonemes: String, voice: String? = nil, speed: Double = 1
    ) async throws -> Speech {
        var queue = try queue(phonemes, voice, speed)
        var parts: [SpokenPart] = []
        while let part = try await queue.next() { parts.append(part) }
        return try Speech(
            joining: parts, sampleRate: bundle.manifest.sampleRate,
            samplesPerFrame: bundle.manifest.samplesPerFrame)
    }

    /// Says phonemes part by part: while one is played, the next is computed, and no more.
    ///
    /// Nothing is done before the first chunk is asked for. When the stream is let go, or the task
    /// that reads it is cancelled, the work ends behind the stage that runs; a cancelled task then
    /// gets `CancellationError`, or the end of the stream.
    ///
    /// - Parameters:
    ///   - phonemes: code points of the vocabulary.
    ///   - voice: a name out of `voices`, or a blend of several; nil is the default voice.
    ///   - speed: 1 is the voice's own pace, 2 twice as fast.
    /// - Returns: chunks in the order they are heard, which together are what `synthesize` returns.
    ///   It throws what `synthesize` throws.
    public nonisolated func stream(
        phonemes: String, voice: String? = nil, speed: Double = 1
    ) -> AsyncThrowingStream<SpeechChunk, any Error> {
        let manifest = bundle.manifest
        let ahead = LookAhead(
            sampleRate: manifest.sampleRate, samplesPerFrame: manifest.samplesPerFrame
        ) { try self.queue(phonemes, voice, speed) }
        return AsyncThrowingStream { try await ahead.next() }
    }

    /// Loads functions and runs each once, so that the first speech is as quick as later ones.
    ///
    /// - Parameters:
    ///   - tokens: token buckets; nil is all.
    ///   - frames: frame buckets; nil is all.
    /// - Throws: `KokoroError.argument` if there is no such bucket, `.package` if a function
    ///   cannot be loaded or run; `CancellationError` if the task was cancelled.
    public func prewarm(tokens: [Int]? = nil, frames: [Int]? = nil) async throws {
        try await speaker.prewarm(tokens: tokens, frames: frames)
    }

    /// Lets go of every loaded function and of the noise; what speaks now keeps its own to the
    /// end. They are loaded and drawn again when they are needed.
    public func unload() async {
        await cache.unload()
        await speaker.unload()
    }

    private nonisolated func queue(
        _ phonemes: String, _ voice: String?, _ speed: Double
    ) throws -> PartQueue {
        guard Float(speed).isFinite, Float(speed) > 0 else {
            throw KokoroError.argument("speed must be a finite number above 0, found \(speed)")
        }
        return try PartQueue(
            phonemes, voice: bundle.voice(voice), speed: Float(speed),
            vocabulary: bundle.vocabulary, speaker: speaker)
    }
}
