import KokoroBundle

/// Every measure of two audios under the names that Python's reports use; differences are
/// magnitudes. What its unit is ends the name: dB, Hz, percent, samples.
public struct AudioMetrics: Sendable, Equatable {
    /// What a report writes for infinity, which JSON has no number for.
    public static let cap = 999.0

    /// Whether more or less of a metric is better.
    public enum Better: Sendable {
        /// As of a signal-to-noise ratio.
        case higher
        /// As of a distance.
        case lower
    }

    /// Names and values, in the order of Python's `AUDIO_METRICS`.
    public let values: [(name: String, value: Double)]

    private static let names = [
        "length_difference_samples", "audio_snr_db", "log_spectral_distance_db", "log_mel_cosine",
        "level_difference_db", "f0_error_hz", "gross_pitch_errors_percent",
        "voicing_errors_percent", "opening_error_db", "tail_error_db",
    ]

    /// Measures a candidate.
    ///
    /// Where the lengths differ, the metrics are of the common part, for diagnosis. NaN or infinity
    /// in either audio gives NaN throughout but for the length, and so does an empty common part.
    ///
    /// - Parameters:
    ///   - reference: samples, 1.0 being full scale.
    ///   - candidate: samples.
    ///   - sampleRate: Hz; at least 1,000.
    public init(reference: [Float], candidate: [Float], sampleRate: Int) {
        self.init(
            reference: reference, candidate: candidate, sampleRate: sampleRate,
            using: FastMath.self)
    }

    package init(
        reference: [Float], candidate: [Float], sampleRate: Int, using math: any VectorMath.Type
    ) {
        let common = min(reference.count, candidate.count)
        let (ref, cand) = (Array(reference.prefix(common)), Array(candidate.prefix(common)))
        let difference = Double(abs(reference.count - candidate.count))
        let sound = common > 0 && (ref + cand).allSatisfy(\.isFinite)
        let measured =
            sound ? try? Self.measured(ref, cand, sampleRate: sampleRate, using: math) : nil
        let found = measured ?? .init(repeating: .nan, count: Self.names.count - 1)
        values = Array(zip(Self.names, [difference] + found)).map { ($0.0, $0.1) }
    }

    /// The value of a metric; nil if there is none of that name.
    public subscript(name: String) -> Double? { values.first { $0.name == name }?.value }

    /// Whether both hold the same numbers.
    public static func == (one: Self, other: Self) -> Bool {
        one.values.map(\.value) == other.values.map(\.value)
    }

    /// A value as a report can hold it: infinity as 999, NaN as what fails any bound.
    ///
    /// - Parameters:
    ///   - value: of a metric.
    ///   - better: which way the metric goes.
    /// - Returns: a finite number.
    public static func finite(_ value: Double, _ better: Better) -> Double {
        if value.isNaN { return better == .higher ? -cap : cap }
        return value.isInfinite ? (value < 0 ? -cap : cap) : value
    }

    /// Which way a metric goes.
    ///
    /// - Parameter name: of the metric; its end says what it is.
    /// - Returns: `higher` for signal-to-noise ratios and cosines, `lower` for all else.
    public static func better(_ name: String) -> Better {
        name.hasSuffix("snr_db") || name.hasSuffix("cosine") ? .higher : .lower
    }

    private static func measured(
        _ reference: [Float], _ candidate: [Float], sampleRate: Int, using math: any VectorMath.Type
    ) throws -> [Double] {
        let (ref, cand) = (Spectra.power(reference, math), Spectra.power(candidate, math))
        let pitch = try PitchDifference(
            reference: PitchContour(of: reference, sampleRate: sampleRate, using: math),
            candidate: PitchContour(of: candidate, sampleRate: sampleRate, using: math))
        return [
            try Levels.signalToNoiseDB(reference: reference, candidate: candidate, using: math),
            Spectra.distanceDB(ref, cand),
            Spectra.logMelCosine(ref, cand, sampleRate: sampleRate),
            abs(Levels.differenceDB(reference: reference, candidate: candidate, using: math)),
            pitch.errorHz, pitch.grossErrorsPercent, pitch.voicingErrorsPercent,
            try Levels.openingErrorDB(
                reference: reference, candidate: candidate, sampleRate: sampleRate, using: math),
            try Levels.tailErrorDB(
                reference: reference, candidate: candidate, sampleRate: sampleRate, using: math),
        ]
    }
}
