import KokoroBundle

/// The cut `complete`: one package for each bucket, tried from small to large, since how long the
/// speech is becomes known by saying it.
struct CompleteSpeaker: Speaker {
    private static let name = "Complete"

    private let manifest: Manifest
    private let buckets: CompleteBuckets
    private let loader: StageLoader

    /// Looks at what the bundle holds.
    ///
    /// - Throws: `KokoroError.bundle` if it has no package of this cut.
    init(_ manifest: Manifest, loader: StageLoader) throws {
        self.manifest = manifest
        self.loader = loader
        buckets = try manifest.completeBuckets()
    }

    var longest: Int { buckets.longest(maxPhonemes: manifest.maxPhonemes) }

    func speak(_ utterance: Utterance) async throws -> Spoken {
        var needed = 0
        while true {
            let bucket = try buckets.bucket(holding: utterance.ids.count, samples: needed)
            do {
                return try await speak(utterance, at: bucket)
            } catch KokoroError.frameOverflow(let samples, _) {
                needed = samples
            }
        }
    }

    func unload() {}

    func prewarm(tokens: [Int]?, frames: [Int]?) async throws {
        let tokens = try chosen(tokens, of: buckets.shapes.map(\.tokens), "tokens")
        let frames = try chosen(frames, of: buckets.shapes.map(\.frames), "frames")
        for bucket in buckets.shapes
        where tokens.contains(bucket.tokens) && frames.contains(bucket.frames) {
            try await loader.prewarm(Self.name, place(bucket))
        }
    }

    private func speak(_ utterance: Utterance, at bucket: Bucket) async throws -> Spoken {
        let padded = try PaddedTokens(ids: utterance.ids, tokens: bucket.tokens)
        let output = try await stage(bucket).run(
            CompleteInput(
                inputIDs: Tensor(padded.inputIDs, shape: [1, bucket.tokens]),
                attentionMask: Tensor(padded.attentionMask, shape: [1, bucket.tokens]),
                style: Tensor(utterance.style, shape: [1, utterance.style.count]),
                randomPhases: .randomPhases, speed: Tensor([utterance.speed], shape: [1])))
        let held = output.audio.count
        let length = Int(try output.length.int32s().first ?? 0)
        guard length <= held else {
            throw KokoroError.frameOverflow(needed: length, held: held)
        }
        guard length > 0 else {
            throw KokoroError.parity("the network gave \(length) samples of speech")
        }
        guard try output.audio.isFinite() else {
            throw KokoroError.parity("the network gave NaN or infinite samples")
        }
        return Spoken(
            samples: Array(try output.audio.floats().prefix(length)),
            durations: try durations(output.durations, of: utterance.ids.count), bucket: bucket)
    }

    /// What overflows is not looked at for NaN, so that a larger bucket is tried.
    private func stage(_ bucket: Bucket) async throws -> some CompleteStage {
        try await loader.stage(Self.name, place(bucket), refusesNonFinite: false)
            as PackagedStage<CompleteInput, CompleteOutput>
    }

    private func place(_ bucket: Bucket) throws -> PackagedFunction {
        guard let place = manifest.completeFunction(bucket) else {
            throw KokoroError.bundle(
                "the cut 'complete' has no bucket of \(bucket.tokens) x \(bucket.frames)")
        }
        return place
    }
}
