import Foundation

#if canImport(Accelerate)
    import Accelerate
#endif

/// The arithmetic on long rows that a system may have a fast library for. Everything is float64.
protocol VectorMath {
    /// Natural logarithm of each value.
    static func logarithms(_ values: [Double]) -> [Double]
    /// Sine and cosine of each angle in radians.
    static func sinesAndCosines(_ angles: [Double]) -> (sines: [Double], cosines: [Double])
    /// Sum of the squares; NaN if a value is.
    static func sumOfSquares(_ values: [Double]) -> Double
}

/// Plain Swift, on every system.
enum PlainMath: VectorMath {
    static func logarithms(_ values: [Double]) -> [Double] { values.map { log($0) } }

    static func sinesAndCosines(_ angles: [Double]) -> (sines: [Double], cosines: [Double]) {
        (angles.map { sin($0) }, angles.map { cos($0) })
    }

    static func sumOfSquares(_ values: [Double]) -> Double { values.reduce(0) { $0 + $1 * $1 } }
}

#if canImport(Accelerate)
    /// Apple's library.
    enum AccelerateMath: VectorMath {
        static func logarithms(_ values: [Double]) -> [Double] { vForce.log(values) }

        static func sinesAndCosines(_ angles: [Double]) -> (sines: [Double], cosines: [Double]) {
            (vForce.sin(angles), vForce.cos(angles))
        }

        static func sumOfSquares(_ values: [Double]) -> Double { vDSP.sumOfSquares(values) }
    }

    typealias FastMath = AccelerateMath
#else
    typealias FastMath = PlainMath
#endif
