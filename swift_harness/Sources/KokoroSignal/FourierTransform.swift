import Foundation

#if canImport(Accelerate)
    import Accelerate
#endif

/// A row of complex numbers.
package struct ComplexRow {
    package var real: [Double]
    package var imaginary: [Double]
}

/// Discrete Fourier transform of rows of one length, forward and not scaled.
package protocol FourierTransform {
    /// The transform of a row of the length it was made for.
    func callAsFunction(_ row: ComplexRow) -> ComplexRow
}

extension FourierTransform {
    /// Transforms of two real rows at once, each as the bins from 0 to half the length.
    func spectra(_ one: [Double], _ other: [Double]) -> (one: ComplexRow, other: ComplexRow) {
        let both = self(ComplexRow(real: one, imaginary: other))
        let (count, bins) = (one.count, one.count / 2 + 1)
        var first = ComplexRow(
            real: .init(repeating: 0, count: bins), imaginary: .init(repeating: 0, count: bins))
        var second = first
        for bin in 0..<bins {
            let mirrored = (count - bin) % count
            first.real[bin] = (both.real[bin] + both.real[mirrored]) / 2
            first.imaginary[bin] = (both.imaginary[bin] - both.imaginary[mirrored]) / 2
            second.real[bin] = (both.imaginary[bin] + both.imaginary[mirrored]) / 2
            second.imaginary[bin] = (both.real[mirrored] - both.real[bin]) / 2
        }
        return (first, second)
    }

    /// The real row whose spectrum is given by its bins from 0 to half the length.
    func realRow(of spectrum: ComplexRow) -> [Double] {
        let count = 2 * (spectrum.real.count - 1)
        // the inverse is the transform of the conjugate, up to the scale
        let mirrored = (1..<count / 2).reversed()
        let whole = ComplexRow(
            real: spectrum.real + mirrored.map { spectrum.real[$0] },
            imaginary: spectrum.imaginary.map { -$0 } + mirrored.map { spectrum.imaginary[$0] })
        return self(whole).real.map { $0 / Double(count) }
    }
}

/// Cooley and Tukey 1965, radix 2.
package struct PlainFourier: FourierTransform {
    private let count: Int
    private let cosines: [Double]
    private let sines: [Double]
    private let order: [Int]

    init(_ count: Int) {
        precondition(count >= 8 && count & (count - 1) == 0, "count must be a power of two")
        self.count = count
        let angles = (0..<count / 2).map { -2 * Double.pi * Double($0) / Double(count) }
        cosines = angles.map { cos($0) }
        sines = angles.map { sin($0) }
        let unused = UInt.bitWidth - count.trailingZeroBitCount
        order = (0..<count).map { Int(Self.reversedBits(UInt($0)) >> UInt(unused)) }
    }

    package func callAsFunction(_ row: ComplexRow) -> ComplexRow {
        precondition(row.real.count == count && row.imaginary.count == count, "another length")
        var result = ComplexRow(
            real: order.map { row.real[$0] }, imaginary: order.map { row.imaginary[$0] })
        result.real.withUnsafeMutableBufferPointer { real in
            result.imaginary.withUnsafeMutableBufferPointer { imaginary in
                var half = 1
                while half < count {
                    combine(real, imaginary, half)
                    half *= 2
                }
            }
        }
        return result
    }

    /// Makes transforms of twice `half` values out of neighbours of `half`.
    private func combine(
        _ real: UnsafeMutableBufferPointer<Double>, _ imaginary: UnsafeMutableBufferPointer<Double>,
        _ half: Int
    ) {
        let step = count / (2 * half)
        for start in stride(from: 0, to: count, by: 2 * half) {
            for offset in 0..<half {
                let (upper, lower) = (start + offset, start + offset + half)
                let (c, s) = (cosines[offset * step], sines[offset * step])
                let turned = real[lower] * c - imaginary[lower] * s
                let turnedImaginary = real[lower] * s + imaginary[lower] * c
                real[lower] = real[upper] - turned
                imaginary[lower] = imaginary[upper] - turnedImaginary
                real[upper] += turned
                imaginary[upper] += turnedImaginary
            }
        }
    }

    private static func reversedBits(_ value: UInt) -> UInt {
        var (rest, result): (UInt, UInt) = (value, 0)
        for _ in 0..<UInt.bitWidth {
            result = result << 1 | rest & 1
            rest >>= 1
        }
        return result
    }
}

#if canImport(Accelerate)
    /// Apple's library.
    package final class AccelerateFourier: FourierTransform {
        private let count: Int
        private let setup: vDSP_DFT_SetupD

        init(_ count: Int) {
            guard let setup = vDSP_DFT_zop_CreateSetupD(nil, vDSP_Length(count), .FORWARD) else {
                preconditionFailure("vDSP has no transform of \(count) values")
            }
            self.count = count
            self.setup = setup
        }

        deinit { vDSP_DFT_DestroySetupD(setup) }

        package func callAsFunction(_ row: ComplexRow) -> ComplexRow {
            precondition(row.real.count == count && row.imaginary.count == count, "another length")
            var result = ComplexRow(
                real: .init(repeating: 0, count: count),
                imaginary: .init(repeating: 0, count: count))
            vDSP_DFT_ExecuteD(
                setup, row.real, row.imaginary, &result.real, &result.imaginary)
            return result
        }
    }
#endif
