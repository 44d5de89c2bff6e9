import Foundation
import KokoroBundle

/// Power spectra of audio and the distances between two of them; all of float64.
public enum Spectra {
    /// Samples of a frame.
    public static let frameSamples = 1024
    /// Samples from one frame to the next.
    public static let hopSamples = 256
    /// Bands of `logMelCosine`.
    public static let melBands = 80
    /// Values this many dB below the reference's peak are equal to silence.
    public static let floorDB = -100.0
    private static let leastPeak = 1e-20

    /// RMS over bins of the difference of log power spectra, averaged over frames (Gray and Markel
    /// 1976): a Hann window, power floored 100 dB below the reference's peak.
    ///
    /// - Parameters:
    ///   - reference: samples.
    ///   - candidate: as many samples.
    /// - Returns: dB; NaN if a sample is not finite.
    /// - Throws: `KokoroError.argument` if the lengths differ.
    public static func distanceDB(reference: [Float], candidate: [Float]) throws -> Double {
        try distanceDB(reference: reference, candidate: candidate, using: FastMath.self)
    }

    package static func distanceDB(
        reference: [Float], candidate: [Float], using math: any VectorMath.Type
    ) throws -> Double {
        try requireEqualLengths(reference, candidate)
        return distanceDB(power(reference, math), power(candidate, math))
    }

    static func distanceDB(_ reference: [[Double]], _ candidate: [[Double]]) -> Double {
        guard isFinite(reference), isFinite(candidate) else { return .nan }
        let floor = floor(below: reference)
        let frames = zip(reference, candidate).map { ref, cand -> Double in
            let squares = zip(ref, cand).reduce(0.0) { sum, pair in
                let difference = 10 * log10(max(pair.0, floor) / max(pair.1, floor))
                return sum + difference * difference
            }
            return (squares / Double(ref.count)).squareRoot()
        }
        return frames.reduce(0, +) / Double(frames.count)
    }

    /// Cosine between two log-mel spectrograms, each less the reference's mean; 1 when equal.
    ///
    /// - Parameters:
    ///   - reference: samples.
    ///   - candidate: as many samples.
    ///   - sampleRate: Hz; the 80 bands of Slaney's scale reach up to half of it.
    /// - Returns: -1 to 1; NaN if a sample is not finite.
    /// - Throws: `KokoroError.argument` if the lengths differ.
    public static func logMelCosine(
        reference: [Float], candidate: [Float], sampleRate: Int
    ) throws -> Double {
        try logMelCosine(
            reference: reference, candidate: candidate, sampleRate: sampleRate, using: FastMath.self
        )
    }

    package static func logMelCosine(
        reference: [Float], candidate: [Float], sampleRate: Int, using math: any VectorMath.Type
    ) throws -> Double {
        try requireEqualLengths(reference, candidate)
        return logMelCosine(
            power(reference, math), power(candidate, math), sampleRate: sampleRate)
    }

    static func logMelCosine(
        _ reference: [[Double]], _ candidate: [[Double]], sampleRate: Int
    ) -> Double {
        let filters = MelFilters(bands: melBands, bins: frameSamples / 2 + 1, sampleRate)
        let (ref, cand) = (filters.bands(reference), filters.bands(candidate))
        guard isFinite(ref), isFinite(cand) else { return .nan }
        let floor = floor(below: ref)
        let logs = [ref, cand].map { rows in rows.joined().map { 10 * log10(max($0, floor)) } }
        let mean = logs[0].reduce(0, +) / Double(logs[0].count)
        return cosine(logs[0].map { $0 - mean }, logs[1].map { $0 - mean })
    }

    /// Power of every bin from 0 to half the sample rate, frame by frame.
    static func power(_ samples: [Float], _ math: any VectorMath.Type) -> [[Double]] {
        let transform = math.fourier(frameSamples)
        let window = (0..<frameSamples).map {
            0.5 - 0.5 * cos(2 * Double.pi * Double($0) / Double(frameSamples))
        }
        let padded = samples.map(Double.init) + [Double](repeating: 0, count: frameSamples)
        let silence = ComplexRow(
            real: [], imaginary: .init(repeating: 0, count: frameSamples))
        return stride(from: 0, through: samples.count, by: hopSamples).map { start in
            var row = silence
            row.real = window.indices.map { padded[start + $0] * window[$0] }
            let spectrum = transform(row)
            return (0...frameSamples / 2).map {
                spectrum.real[$0] * spectrum.real[$0]
                    + spectrum.imaginary[$0] * spectrum.imaginary[$0]
            }
        }
    }

    private static func floor(below reference: [[Double]]) -> Double {
        let peak = reference.reduce(0) { max($0, $1.max() ?? 0) }
        return max(peak, leastPeak) * pow(10, floorDB / 10)
    }

    private static func isFinite(_ rows: [[Double]]) -> Bool {
        rows.allSatisfy { $0.allSatisfy(\.isFinite) }
    }

    private static func cosine(_ one: [Double], _ other: [Double]) -> Double {
        if one == other { return 1 }
        let product = zip(one, other).reduce(0) { $0 + $1.0 * $1.1 }
        let size = [one, other].reduce(1) { $0 * PlainMath.sumOfSquares($1).squareRoot() }
        return size > 0 ? product / size : 0
    }
}

/// Triangles on Slaney's scale of pitch, each of unit area (Slaney 1998, "Auditory Toolbox").
struct MelFilters {
    private static let linearHz = 200.0 / 3
    private static let firstLogarithmicHz = 1000.0
    private static let firstLogarithmicMel = 15.0
    private static let step = log(6.4) / 27

    /// Per band: first bin, and weights from there on.
    private let triangles: [(first: Int, weights: [Double])]

    /// - Parameters:
    ///   - bands: number of triangles, from 0 Hz to half the sample rate.
    ///   - bins: of the power spectra, evenly over the same range.
    ///   - sampleRate: Hz.
    init(bands: Int, bins: Int, _ sampleRate: Int) {
        let top = Self.mel(Double(sampleRate) / 2)
        let corners = (0...bands + 1).map { Self.hertz(top * Double($0) / Double(bands + 1)) }
        let width = Double(sampleRate / 2) / Double(bins - 1)
        triangles = (0..<bands).map { band in
            let (low, middle, high) = (corners[band], corners[band + 1], corners[band + 2])
            let weights = (0..<bins).map { bin -> Double in
                let hertz = Double(bin) * width
                let rising = (hertz - low) / (middle - low)
                let falling = (high - hertz) / (high - middle)
                return max(0, min(rising, falling)) * 2 / (high - low)
            }
            let first = weights.firstIndex { $0 > 0 } ?? 0
            let last = weights.lastIndex { $0 > 0 } ?? 0
            return (first, Array(weights[first...last]))
        }
    }

    /// Power per band, frame by frame.
    func bands(_ power: [[Double]]) -> [[Double]] {
        power.map { row in
            triangles.map { first, weights in
                weights.indices.reduce(0) { $0 + weights[$1] * row[first + $1] }
            }
        }
    }

    private static func mel(_ hertz: Double) -> Double {
        hertz < firstLogarithmicHz
            ? hertz / linearHz : firstLogarithmicMel + log(hertz / firstLogarithmicHz) / step
    }

    private static func hertz(_ mel: Double) -> Double {
        mel < firstLogarithmicMel
            ? mel * linearHz : firstLogarithmicHz * exp(step * (mel - firstLogarithmicMel))
    }
}

/// Refuses to compare what cannot be compared sample by sample.
func requireEqualLengths(_ reference: [Float], _ candidate: [Float]) throws {
    guard reference.count == candidate.count else {
        throw KokoroError.argument(
            "lengths differ: reference \(reference.count), candidate \(candidate.count) samples")
    }
}
