import Foundation

#if canImport(Accelerate)
    import Accelerate
#endif

/// The arithmetic on long rows that a system may have a fast library for. Everything is float64.
package protocol VectorMath {
    /// Natural logarithm of each value.
    static func logarithms(_ values: [Double]) -> [Double]
    /// Sine and cosine of each angle in radians.
    static func sinesAndCosines(_ angles: [Double]) -> (sines: [Double], cosines: [Double])
    /// Sum of the squares; NaN if a value is.
    static func sumOfSquares(_ values: [Double]) -> Double
    /// The transform of rows of `count` values: a power of two, at least 8.
    static func fourier(_ count: Int) -> any FourierTransform
}

/// Plain Swift, on every system.
package enum PlainMath: VectorMath {
    package static func logarithms(_ values: [Double]) -> [Double] { values.map { log($0) } }

    package static func sinesAndCosines(_ angles: [Double]) -> (sines: [Double], cosines: [Double])
    {
        (angles.map { sin($0) }, angles.map { cos($0) })
    }

    package static func sumOfSquares(_ values: [Double]) -> Double {
        values.reduce(0) { $0 + $1 * $1 }
    }

    package static func fourier(_ count: Int) -> any FourierTransform { PlainFourier(count) }
}

#if canImport(Accelerate)
    /// Apple's library.
    package enum AccelerateMath: VectorMath {
        package static func logarithms(_ values: [Double]) -> [Double] { vForce.log(values) }

        package static func sinesAndCosines(_ angles: [Double]) -> (
            sines: [Double], cosines: [Double]
        ) {
            (vForce.sin(angles), vForce.cos(angles))
        }

        package static func sumOfSquares(_ values: [Double]) -> Double { vDSP.sumOfSquares(values) }

        package static func fourier(_ count: Int) -> any FourierTransform {
            AccelerateFourier(count)
        }
    }

    package typealias FastMath = AccelerateMath
#else
    package typealias FastMath = PlainMath
#endif
