import Foundation
import KokoroBundle
import KokoroRecordings
import KokoroSignal
import KokoroSynthesis

/// How far the outputs of one run are from the recorded ones.
enum StageComparison {
    /// Magnitude and phase of a spectrum; pi and -pi are the same phase.
    private static let spectrum = "har"

    /// Signal-to-noise ratio of each output in dB, infinite when equal.
    ///
    /// - Parameters:
    ///   - recorded: what Python's executor gave; only what was recorded whole can be compared.
    ///   - outputs: what was given here.
    /// - Returns: dB by name; NaN where an output is missing or of another type or shape.
    /// - Throws: `KokoroError.package` if an array was not recorded whole, or cannot be read.
    static func signalToNoiseDB(
        recorded: [RecordedTensor], outputs: [String: Tensor]
    ) throws -> [String: Double] {
        var found: [String: Double] = [:]
        for expected in recorded {
            found[expected.name] = try signalToNoiseDB(expected, outputs[expected.name])
        }
        return found
    }

    private static func signalToNoiseDB(
        _ expected: RecordedTensor, _ output: Tensor?
    ) throws -> Double {
        guard let output, output.type == expected.tensor.type,
            output.shape == expected.tensor.shape
        else { return .nan }
        if output.type == .int32 {
            return try output.int32s() == expected.tensor.int32s() ? .infinity : -.infinity
        }
        var (ref, cand) = (try expected.tensor.floats(), try output.floats())
        if expected.name == spectrum { (ref, cand) = (complex(ref), complex(cand)) }
        return try Levels.signalToNoiseDB(reference: ref, candidate: cand)
    }

    /// Real and imaginary parts of a spectrum whose first half is magnitudes, whose second phases.
    private static func complex(_ values: [Float]) -> [Float] {
        let bins = values.count / 2
        let (magnitudes, phases) = (values[..<bins], values[bins...])
        let real = zip(magnitudes, phases).map { $0 * Float(cos(Double($1))) }
        return real + zip(magnitudes, phases).map { $0 * Float(sin(Double($1))) }
    }
}
