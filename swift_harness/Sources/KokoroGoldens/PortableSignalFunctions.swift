import KokoroBundle
import KokoroSignal

extension PortableFunctions {
    /// Those of `KokoroSignal`, by one implementation of the arithmetic on rows.
    static func ofSignals(_ math: any VectorMath.Type) -> [PortableFunction] {
        [
            PortableFunction("alignment") { try alignment($0) },
            PortableFunction("audio_metrics") { try audioMetrics($0, math) },
            PortableFunction("joining") { try joining($0) },
            PortableFunction("loudness") { try loudness($0, math) },
            PortableFunction("noise") { try noise($0, math) },
            PortableFunction("pitch") { try pitch($0, math) },
            PortableFunction("spectral_distance") { try spectralDistance($0, math) },
            PortableFunction("timestamps") { try timestamps($0) },
        ]
    }

    private static func noise(
        _ input: GoldenInput, _ math: any VectorMath.Type
    ) throws -> GoldenValue {
        let noise = GaussianNoise(seed: try input.integer("seed", as: UInt64.self))
        let samples = noise.samples(
            try input.integer("count"), skipping: try input.integer("skip"), using: math)
        return .table(["samples": .floats(samples)])
    }

    private static func joining(_ input: GoldenInput) throws -> GoldenValue {
        let parts = try input.floatLists("parts").map { samples in
            SpokenPart(
                phonemes: "", samples: samples, durations: [0, 0],
                bucket: Bucket(tokens: 3, frames: 1))
        }
        let speech = try Speech(joining: parts, sampleRate: 24_000, samplesPerFrame: 600)
        return .table(["samples": .floats(speech.samples)])
    }

    private static func timestamps(_ input: GoldenInput) throws -> GoldenValue {
        let samplesPerFrame: Int = try input.integer("samples_per_frame")
        let parts = try input.tables("parts").map { part in
            let durations = try part.integers("durations", as: Int32.self)
            let frames = durations.reduce(0) { $0 + Int($1) }
            return SpokenPart(
                phonemes: try part.text("phonemes"),
                samples: Array(repeating: 0, count: frames * samplesPerFrame),
                durations: durations, bucket: Bucket(tokens: 3, frames: 1))
        }
        let speech = try Speech(
            joining: parts, sampleRate: input.integer("sample_rate"),
            samplesPerFrame: samplesPerFrame)
        let marks = speech.timestamps.map { mark in
            GoldenValue.table([
                "phoneme": mark.phoneme.map { .text(String($0)) } ?? .null,
                "start": .number(mark.start), "end": .number(mark.end),
            ])
        }
        return .table(["timestamps": .list(marks)])
    }

    private static func alignment(_ input: GoldenInput) throws -> GoldenValue {
        let durations = try input.integers("durations", as: Int32.self)
        let alignment = try Alignment(durations: durations, frames: input.integer("frames"))
        return .table([
            "alignment": .integers(alignment.tokens),
            "mask": .integers(alignment.mask.map { Int32($0) }),
        ])
    }

    private static func loudness(
        _ input: GoldenInput, _ math: any VectorMath.Type
    ) throws -> GoldenValue {
        let samples = try input.floats("samples")
        let reference = try input.floats("reference")
        return .table([
            "peak": .number(Double(Levels.peak(samples))),
            "rms_db": .number(Levels.rootMeanSquareDB(samples, using: math)),
            "snr_db": .number(
                try Levels.signalToNoiseDB(reference: reference, candidate: samples, using: math)),
            "level_difference_db": .number(
                Levels.differenceDB(reference: reference, candidate: samples, using: math)),
        ])
    }

    private static func spectralDistance(
        _ input: GoldenInput, _ math: any VectorMath.Type
    ) throws -> GoldenValue {
        let reference = try GoldenSound(input.table("reference"))
        let candidate = try GoldenSound(input.table("candidate")).samples
        return reported([
            (
                "log_spectral_distance_db",
                try Spectra.distanceDB(
                    reference: reference.samples, candidate: candidate, using: math)
            ),
            (
                "log_mel_cosine",
                try Spectra.logMelCosine(
                    reference: reference.samples, candidate: candidate,
                    sampleRate: reference.sampleRate, using: math)
            ),
        ])
    }

    private static func pitch(
        _ input: GoldenInput, _ math: any VectorMath.Type
    ) throws -> GoldenValue {
        let sound = try GoldenSound(input.table("sound"))
        let contour = PitchContour(of: sound.samples, sampleRate: sound.sampleRate, using: math)
        return .table(["hz": .list(contour.hertz.map { $0.map(GoldenValue.number) ?? .null })])
    }

    private static func audioMetrics(
        _ input: GoldenInput, _ math: any VectorMath.Type
    ) throws -> GoldenValue {
        let reference = try GoldenSound(input.table("reference"))
        let candidate = try GoldenSound(input.table("candidate")).samples
        return reported(
            AudioMetrics(
                reference: reference.samples, candidate: candidate,
                sampleRate: reference.sampleRate, using: math
            ).values)
    }

    /// Metrics as a report writes them.
    private static func reported(_ metrics: [(name: String, value: Double)]) -> GoldenValue {
        var fields = ExactTable<GoldenValue>()
        for (name, value) in metrics {
            fields[name] = .number(AudioMetrics.finite(value, AudioMetrics.better(name)))
        }
        return .fields(fields)
    }
}
