import Foundation
import KokoroBundle

/// How loud audio is, and how far from other audio; sums are of float64. NaN in gives NaN out.
public enum Levels {
    /// Length of the opening and of the tail, which are measured apart, in seconds.
    public static let edgeSeconds = 0.05

    /// Largest magnitude, 1.0 being full scale; 0 where there are no samples.
    public static func peak(_ samples: [Float]) -> Float {
        samples.reduce(0) { $0.isNaN || $1.isNaN ? .nan : max($0, abs($1)) }
    }

    /// Root mean square in dB of full scale: 0 for a constant 1.0, minus infinity for silence.
    public static func rootMeanSquareDB(_ samples: [Float]) -> Double {
        rootMeanSquareDB(samples, using: FastMath.self)
    }

    package static func rootMeanSquareDB(_ samples: [Float], using math: any VectorMath.Type)
        -> Double
    {
        10 * log10(meanSquare(samples, math))
    }

    /// Level of the candidate above the reference (RMS), in dB; infinite if one of them is silent.
    public static func differenceDB(reference: [Float], candidate: [Float]) -> Double {
        differenceDB(reference: reference, candidate: candidate, using: FastMath.self)
    }

    package static func differenceDB(
        reference: [Float], candidate: [Float], using math: any VectorMath.Type
    ) -> Double {
        let (ref, cand) = (meanSquare(reference, math), meanSquare(candidate, math))
        if ref == 0 || cand == 0 { return ref == cand ? 0 : .infinity }
        return 10 * log10(cand / ref)
    }

    /// Signal-to-noise ratio in dB; infinite when equal.
    ///
    /// - Throws: `KokoroError.argument` if the lengths differ.
    public static func signalToNoiseDB(reference: [Float], candidate: [Float]) throws -> Double {
        try signalToNoiseDB(reference: reference, candidate: candidate, using: FastMath.self)
    }

    package static func signalToNoiseDB(
        reference: [Float], candidate: [Float], using math: any VectorMath.Type
    ) throws -> Double {
        let error = try differences(reference, candidate)
        return ratioDB(
            signal: math.sumOfSquares(reference.map(Double.init)), noise: math.sumOfSquares(error))
    }

    /// Power of the error in the first 50 ms, relative to the mean power of the whole reference, in
    /// dB; minus infinity when equal.
    ///
    /// - Parameters:
    ///   - reference: samples, 1.0 being full scale.
    ///   - candidate: as many samples.
    ///   - sampleRate: Hz.
    /// - Returns: dB.
    /// - Throws: `KokoroError.argument` if the lengths differ.
    public static func openingErrorDB(
        reference: [Float], candidate: [Float], sampleRate: Int
    ) throws -> Double {
        try openingErrorDB(
            reference: reference, candidate: candidate, sampleRate: sampleRate,
            using: FastMath.self)
    }

    package static func openingErrorDB(
        reference: [Float], candidate: [Float], sampleRate: Int, using math: any VectorMath.Type
    ) throws -> Double {
        let error = try differences(reference, candidate)
        return errorDB(error.prefix(edge(of: reference, sampleRate)), reference, math)
    }

    /// The same of the last 50 ms.
    ///
    /// - Parameters:
    ///   - reference: samples, 1.0 being full scale.
    ///   - candidate: as many samples.
    ///   - sampleRate: Hz.
    /// - Returns: dB.
    /// - Throws: `KokoroError.argument` if the lengths differ.
    public static func tailErrorDB(
        reference: [Float], candidate: [Float], sampleRate: Int
    ) throws -> Double {
        try tailErrorDB(
            reference: reference, candidate: candidate, sampleRate: sampleRate,
            using: FastMath.self)
    }

    package static func tailErrorDB(
        reference: [Float], candidate: [Float], sampleRate: Int, using math: any VectorMath.Type
    ) throws -> Double {
        let error = try differences(reference, candidate)
        return errorDB(error.suffix(edge(of: reference, sampleRate)), reference, math)
    }

    /// Tokens whose durations differ; all of them where their numbers differ.
    public static func durationErrors(reference: [Int32], candidate: [Int32]) -> Int {
        guard reference.count == candidate.count else {
            return max(reference.count, candidate.count)
        }
        return zip(reference, candidate).lazy.filter { $0 != $1 }.count
    }

    private static func meanSquare(_ samples: [Float], _ math: any VectorMath.Type) -> Double {
        math.sumOfSquares(samples.map(Double.init)) / Double(samples.count)
    }

    private static func differences(_ reference: [Float], _ candidate: [Float]) throws -> [Double] {
        guard reference.count == candidate.count else {
            throw KokoroError.argument(
                "lengths differ: reference \(reference.count), candidate \(candidate.count) samples"
            )
        }
        return zip(reference, candidate).map { Double($0) - Double($1) }
    }

    private static func ratioDB(signal: Double, noise: Double) -> Double {
        if signal.isNaN || noise.isNaN { return .nan }
        if noise == 0 { return .infinity }
        return signal > 0 ? 10 * log10(signal / noise) : -.infinity
    }

    private static func edge(of reference: [Float], _ sampleRate: Int) -> Int {
        let samples = (edgeSeconds * Double(sampleRate)).rounded(.toNearestOrEven)
        return min(reference.count, Int(samples))
    }

    private static func errorDB(
        _ error: ArraySlice<Double>, _ reference: [Float], _ math: any VectorMath.Type
    ) -> Double {
        let noise = math.sumOfSquares(Array(error)) / Double(error.count)
        return -ratioDB(signal: meanSquare(reference, math), noise: noise)
    }
}
