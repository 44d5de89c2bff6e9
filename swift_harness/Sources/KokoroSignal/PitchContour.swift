import Foundation
import KokoroBundle

/// Fundamental frequency over time, by YIN (de Cheveigné and Kawahara 2002, steps 1 to 5).
public struct PitchContour: Sendable, Equatable {
    /// Lowest pitch looked for, in Hz.
    public static let lowestHz = 60.0
    /// Highest pitch looked for, in Hz.
    public static let highestHz = 500.0
    /// Seconds from one value to the next.
    public static let hopSeconds = 0.01
    private static let windowSeconds = 0.025
    /// Aperiodic share of the power below which a frame is voiced.
    private static let voicedBelow = 0.15
    /// Frames this far below the loudest one are unvoiced, in dB.
    private static let quietDB = -50.0
    private static let leastPower = 1e-20

    /// Hz, one value per `hopSeconds`; nil where unvoiced.
    public let hertz: [Double?]

    /// A contour of known values in Hz.
    public init(hertz: [Double?]) {
        self.hertz = hertz
    }

    /// Estimates the pitch of audio.
    ///
    /// - Parameters:
    ///   - samples: what is shorter than one frame is padded with silence.
    ///   - sampleRate: Hz; at least 1,000.
    public init(of samples: [Float], sampleRate: Int) {
        self.init(of: samples, sampleRate: sampleRate, using: FastMath.self)
    }

    package init(of samples: [Float], sampleRate: Int, using math: any VectorMath.Type) {
        let rate = Double(sampleRate)
        let lags = Lags(
            shortest: max(2, Self.rounded(rate / Self.highestHz)),
            longest: Self.rounded(rate / Self.lowestHz),
            window: Self.rounded(rate * Self.windowSeconds))
        let size = lags.window + lags.longest + 1
        let silent = max(0, size - samples.count)
        let signal = samples.map(Double.init) + [Double](repeating: 0, count: silent)
        let transform = math.fourier(lags.transformCount)
        let hop = max(1, Self.rounded(rate * Self.hopSeconds))
        let frames = stride(from: 0, through: signal.count - size, by: hop).map { start in
            let frame = Array(signal[start..<start + size])
            let power = math.sumOfSquares(frame) / Double(size)
            return (power: power, period: lags.period(of: frame, transform))
        }
        let loudest = frames.map(\.power).max() ?? 0
        let quiet = max(loudest * pow(10, Self.quietDB / 10), Self.leastPower)
        hertz = frames.map { frame in
            frame.power > quiet ? frame.period.map { rate / $0 } : nil
        }
    }

    private static func rounded(_ value: Double) -> Int {
        Int(value.rounded(.toNearestOrEven))
    }

    /// Periods that are looked for, in samples.
    private struct Lags {
        let shortest: Int
        let longest: Int
        /// Samples that are compared with their shifted selves.
        let window: Int

        /// The power of two that a whole correlation fits.
        var transformCount: Int {
            1 << (Int.bitWidth - (2 * window + longest).leadingZeroBitCount)
        }

        /// The period of a frame in samples; nil where there is none.
        func period(of frame: [Double], _ transform: any FourierTransform) -> Double? {
            let values = normalised(difference(frame, transform))
            let dip = (shortest...longest).first { lag in
                values[lag] < PitchContour.voicedBelow && values[lag] < values[lag - 1]
                    && values[lag] <= values[lag + 1]
            }
            return dip.map { Double($0) + vertex(values[$0 - 1], values[$0], values[$0 + 1]) }
        }

        /// Equation 6 for lags from 0 to `longest` + 1: the power of both spans less twice their
        /// product, the products of all lags being one correlation.
        private func difference(_ frame: [Double], _ transform: any FourierTransform) -> [Double] {
            let silence = { (count: Int) in [Double](repeating: 0, count: count) }
            let (whole, head) = transform.spectra(
                frame + silence(transformCount - frame.count),
                Array(frame[..<window]) + silence(transformCount - window))
            var product = whole
            for bin in product.real.indices {
                let (a, b) = (whole.real[bin], whole.imaginary[bin])
                let (c, d) = (head.real[bin], -head.imaginary[bin])
                product.real[bin] = a * c - b * d
                product.imaginary[bin] = a * d + b * c
            }
            let correlation = transform.realRow(of: product)
            var total = [0.0]
            for value in frame { total.append(total[total.count - 1] + value * value) }
            let power = { (lag: Int) in total[lag + window] - total[lag] }
            return (0...longest + 1).map { max(power(0) + power($0) - 2 * correlation[$0], 0) }
        }

        /// Equation 8: each lag against the mean of those before it; 1 at lag 0 and in silence.
        private func normalised(_ difference: [Double]) -> [Double] {
            var sum = 0.0
            return difference.enumerated().map { lag, value in
                guard lag > 0 else { return 1 }
                sum += value
                let mean = sum / Double(lag)
                return mean > 0 ? value / mean : 1
            }
        }

        /// Where the parabola through a minimum and its neighbours is lowest, seen from it.
        private func vertex(_ before: Double, _ at: Double, _ after: Double) -> Double {
            let bend = before - 2 * at + after
            guard bend > 0 else { return 0 }
            return min(max((before - after) / (2 * bend), -1), 1)
        }
    }
}

/// How far one contour is from another.
public struct PitchDifference: Sendable, Equatable {
    /// Share of the reference beyond which an estimate is another period, not another pitch.
    private static let grossError = 0.2

    /// Mean magnitude in Hz over frames voiced in both, gross errors left out; 0 if there are none.
    public let errorHz: Double
    /// Percent of the frames voiced in both whose pitch differs by more than a fifth.
    public let grossErrorsPercent: Double
    /// Percent of all frames that are voiced in one contour and not in the other.
    public let voicingErrorsPercent: Double

    /// Compares two contours.
    ///
    /// - Throws: `KokoroError.argument` if their lengths differ or they are empty.
    public init(reference: PitchContour, candidate: PitchContour) throws {
        let pairs = Array(zip(reference.hertz, candidate.hertz))
        guard reference.hertz.count == candidate.hertz.count, !pairs.isEmpty else {
            throw KokoroError.argument(
                "contours of \(reference.hertz.count) and \(candidate.hertz.count) frames")
        }
        let voiced = pairs.compactMap { pair -> (Double, Double)? in
            guard let one = pair.0, let other = pair.1 else { return nil }
            return (one, other)
        }
        let fine = voiced.filter { abs($0.1 - $0.0) <= Self.grossError * $0.0 }
        let magnitudes = fine.reduce(0) { $0 + abs($1.1 - $1.0) }
        errorHz = fine.isEmpty ? 0 : magnitudes / Double(fine.count)
        grossErrorsPercent =
            voiced.isEmpty ? 0 : 100 * Double(voiced.count - fine.count) / Double(voiced.count)
        let otherwise = pairs.filter { ($0.0 == nil) != ($0.1 == nil) }.count
        voicingErrorsPercent = 100 * Double(otherwise) / Double(pairs.count)
    }
}
