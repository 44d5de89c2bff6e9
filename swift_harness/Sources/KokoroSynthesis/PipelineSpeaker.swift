import KokoroBundle
import KokoroSignal

/// The cut `pipeline`: seven stages in turn. The text chooses the token bucket, the predicted
/// durations choose the frame bucket.
struct PipelineSpeaker: Speaker {
    private let manifest: Manifest
    private let buckets: PipelineBuckets
    let noise: NoiseTape
    private let loader: StageLoader

    /// Looks at what the bundle holds.
    ///
    /// - Throws: `KokoroError.bundle` if it has no whole pipeline, its noise is drawn in a way
    ///   that is unknown here, or its frames have no whole number of samples per position of the
    ///   pitch.
    init(_ manifest: Manifest, loader: StageLoader) throws {
        guard manifest.noise.algorithm == GaussianNoise.algorithm else {
            throw KokoroError.bundle(
                "the bundle's noise is \(manifest.noise.algorithm), but this version draws "
                    + "\(GaussianNoise.algorithm); convert it again")
        }
        guard manifest.samplesPerFrame % Architecture.pitchPerFrame == 0 else {
            throw KokoroError.bundle(
                "frames of \(manifest.samplesPerFrame) samples cannot be: the pitch has "
                    + "\(Architecture.pitchPerFrame) positions per frame; convert it again")
        }
        self.manifest = manifest
        self.loader = loader
        buckets = try manifest.pipelineBuckets()
        noise = NoiseTape(seed: UInt64(manifest.noise.seed))
    }

    var longest: Int { buckets.longest(maxPhonemes: manifest.maxPhonemes) }

    func speak(_ utterance: Utterance) async throws -> Spoken {
        let tokens = try buckets.tokenBucket(holding: utterance.ids.count)
        let style = Tensor(utterance.style, shape: [1, utterance.style.count])
        let timed = try await durations(utterance, style: style, tokens: tokens)
        let lasting = try KokoroSynthesis.durations(timed.durations, of: utterance.ids.count)
        let count = lasting.reduce(0) { $0 + Int($1) }
        let frames = try buckets.frameBucket(holding: count)
        let audio = try await audio(timed, style: style, count: count, frames: frames)
        let length = count * manifest.samplesPerFrame
        guard length <= audio.count else {
            throw KokoroError.parity("the network gave \(audio.count) samples for \(count) frames")
        }
        return Spoken(
            samples: Array(audio.prefix(length)), durations: lasting,
            bucket: Bucket(tokens: tokens, frames: frames))
    }

    func unload() async { await noise.forget() }

    func prewarm(tokens: [Int]?, frames: [Int]?) async throws {
        let tokens = try chosen(tokens, of: buckets.tokens, "tokens")
        let frames = try chosen(frames, of: buckets.frames, "frames")
        for stage in PipelineStage.allCases {
            for size in stage.isOfTokens ? tokens : frames {
                try await loader.prewarm(stage.rawValue, place(stage, size))
            }
        }
    }

    /// The stages over tokens.
    private func durations(
        _ utterance: Utterance, style: Tensor, tokens: Int
    ) async throws -> DurationOutput {
        let padded = try PaddedTokens(ids: utterance.ids, tokens: tokens)
        let encoder: any EncoderStage = try await encoder(tokens)
        let encoded = try await encoder.run(
            EncoderInput(
                inputIDs: Tensor(padded.inputIDs.map { Float($0) }, shape: [1, 1, 1, tokens]),
                attentionMask: Tensor(
                    padded.attentionMask.map { Float($0) }, shape: [1, 1, 1, tokens])))
        let duration: any DurationStage = try await duration(tokens)
        return try await duration.run(
            DurationInput(
                encoded: encoded.encoded, inputIDs: Tensor(padded.inputIDs, shape: [1, tokens]),
                attentionMask: Tensor(padded.attentionMask, shape: [1, tokens]), style: style,
                speed: Tensor([utterance.speed], shape: [1])))
    }

    /// The stages over frames: samples, with the bucket's padding.
    private func audio(
        _ timed: DurationOutput, style: Tensor, count: Int, frames: Int
    ) async throws -> [Float] {
        let prosody = try await prosody(frames).run(
            ProsodyInput(
                encodedText: timed.encodedText, text: timed.text, durations: timed.durations,
                style: style))
        let decoded = try await decoder(frames).run(
            DecoderInput(
                aligned: prosody.aligned, curves: prosody.curves, levels: prosody.levels,
                frameMask: prosody.frameMask, scale: timed.decoderScale,
                shift: timed.decoderShift))
        let spoken = Tensor([Int32(count)], shape: [1])
        let source = try await source(frames).run(
            SourceInput(
                pitch: prosody.pitch, frames: spoken, randomPhases: .randomPhases,
                noise: await noise.tensor(frames: frames, per: manifest.samplesPerFrame)))
        let generated = try await generator(frames).run(
            GeneratorInput(
                features: decoded.features, harmonics: source.harmonics,
                scale: timed.generatorScale, shift: timed.generatorShift, valid1: source.valid1,
                own1: source.own1, share1: source.share1, valid2: source.valid2,
                own2: source.own2, share2: source.share2))
        let tail = try await tail(frames).run(
            TailInput(hidden: generated.hidden, frames: spoken))
        return try tail.audio.floats()
    }

    private func place(_ stage: PipelineStage, _ size: Int) throws -> PackagedFunction {
        guard let place = manifest.pipelineFunction(stage, size: size) else {
            throw KokoroError.bundle("the stage \(stage.rawValue) has no bucket of \(size)")
        }
        return place
    }
}

/// The stages, loaded when they are asked for.
extension PipelineSpeaker {
    private func stage<Input, Output>(
        _ stage: PipelineStage, _ size: Int
    ) async throws -> PackagedStage<Input, Output> {
        try await loader.stage(stage.rawValue, place(stage, size))
    }

    private func encoder(_ tokens: Int) async throws -> some EncoderStage {
        try await stage(.encoder, tokens) as PackagedStage<EncoderInput, EncoderOutput>
    }

    private func duration(_ tokens: Int) async throws -> some DurationStage {
        try await stage(.duration, tokens) as PackagedStage<DurationInput, DurationOutput>
    }

    private func prosody(_ frames: Int) async throws -> some ProsodyStage {
        try await stage(.prosody, frames) as PackagedStage<ProsodyInput, ProsodyOutput>
    }

    private func decoder(_ frames: Int) async throws -> some DecoderStage {
        try await stage(.decoder, frames) as PackagedStage<DecoderInput, DecoderOutput>
    }

    private func source(_ frames: Int) async throws -> some SourceStage {
        try await stage(.source, frames) as PackagedStage<SourceInput, SourceOutput>
    }

    private func generator(_ frames: Int) async throws -> some GeneratorStage {
        try await stage(.generator, frames) as PackagedStage<GeneratorInput, GeneratorOutput>
    }

    private func tail(_ frames: Int) async throws -> some TailStage {
        try await stage(.tail, frames) as PackagedStage<TailInput, TailOutput>
    }
}

/// The noise of a bundle, drawn once as far as the longest bucket that was used.
actor NoiseTape {
    private let noise: GaussianNoise
    private var drawn: [Float] = []

    init(seed: UInt64) { noise = GaussianNoise(seed: seed) }

    /// Samples that are held.
    var count: Int { drawn.count }

    /// Lets go of them; they are drawn again when they are needed.
    func forget() { drawn = [] }

    /// Noise for a bucket, [1, positions, samples per position].
    func tensor(frames: Int, per samplesPerFrame: Int) -> Tensor {
        let count = frames * samplesPerFrame
        if drawn.count < count {
            drawn += noise.samples(count - drawn.count, skipping: drawn.count)
        }
        let positions = Architecture.pitchPerFrame * frames
        return Tensor(Array(drawn.prefix(count)), shape: [1, positions, count / positions])
    }
}
