/// The Gaussian noise of a seed, the same on every machine and for every length.
///
/// Philox4x64-10 (Salmon et al. 2011) keyed by the seed gives 64-bit words; each pair of words
/// gives two normal deviates by Box and Muller (1958), computed in float64 and rounded once. Values
/// depend on their place alone, so a longer run starts with the shorter one: buckets share their
/// noise.
public struct GaussianNoise: Sendable, Equatable {
    /// Name of the method in a bundle's manifest.
    public static let algorithm = "philox4x64-10/box-muller/float64"

    /// What the noise is drawn from.
    public let seed: UInt64

    /// The noise of a seed.
    public init(seed: UInt64) {
        self.seed = seed
    }

    /// Unit normal deviates.
    ///
    /// - Parameters:
    ///   - count: how many; at least 0.
    ///   - skip: place of the first one; at least 0.
    /// - Returns: `count` of them, those of the places from `skip` on.
    public func samples(_ count: Int, skipping skip: Int = 0) -> [Float] {
        samples(count, skipping: skip, using: FastMath.self)
    }

    package func samples(_ count: Int, skipping skip: Int, using math: any VectorMath.Type)
        -> [Float]
    {
        precondition(count >= 0 && skip >= 0, "count and skip must not be negative")
        let firstPair = skip / 2
        let pairs = (skip + count + 1) / 2 - firstPair
        let words = Philox(key: seed).words(2 * pairs, skipping: 2 * firstPair)
        let deviates = Self.boxMuller(words.map(Self.uniform), math)
        return deviates[(skip - 2 * firstPair)...].prefix(count).map { Float($0) }
    }

    /// A number above 0, whose logarithm is finite, and at most 1: the middle of one of 2^53 steps.
    static func uniform(_ word: UInt64) -> Double { (Double(word >> 11) + 0.5) * 0x1p-53 }

    /// Two deviates from each pair of numbers within 0 and 1.
    private static func boxMuller(_ uniform: [Double], _ math: any VectorMath.Type) -> [Double] {
        let firsts = stride(from: 0, to: uniform.count, by: 2).map { uniform[$0] }
        let angles = stride(from: 1, to: uniform.count, by: 2).map { 2 * Double.pi * uniform[$0] }
        let logarithms = math.logarithms(firsts)
        let (sines, cosines) = math.sinesAndCosines(angles)
        var deviates = [Double](repeating: 0, count: uniform.count)
        for pair in logarithms.indices {
            let radius = (-2 * logarithms[pair]).squareRoot()
            deviates[2 * pair] = radius * cosines[pair]
            deviates[2 * pair + 1] = radius * sines[pair]
        }
        return deviates
    }
}

/// The counter-based generator Philox4x64-10 of Salmon et al. 2011, in the order of words that
/// numpy's `Philox` gives them: its counter is at 1 for the first block.
struct Philox: Sendable {
    private static let rounds = 10
    private static let blockWords = 4
    private static let multipliers: (UInt64, UInt64) = (
        0xD2E7_470E_E14C_6C93, 0xCA5A_8263_9512_1157
    )
    private static let keySteps: (UInt64, UInt64) = (0x9E37_79B9_7F4A_7C15, 0xBB67_AE85_84CA_A73B)

    let key: UInt64

    /// Words of the stream from the place `skip` on.
    func words(_ count: Int, skipping skip: Int = 0) -> [UInt64] {
        let first = skip / Self.blockWords
        let last = (skip + count + Self.blockWords - 1) / Self.blockWords
        var stream: [UInt64] = []
        stream.reserveCapacity((last - first) * Self.blockWords)
        for block in first..<last {
            let (a, b, c, d) = self.block(UInt64(block) + 1)
            stream += [a, b, c, d]
        }
        let start = skip - first * Self.blockWords
        return Array(stream[start..<start + count])
    }

    /// The block of a counter whose upper words are 0.
    private func block(_ counter: UInt64) -> (UInt64, UInt64, UInt64, UInt64) {
        var (a, b, c, d): (UInt64, UInt64, UInt64, UInt64) = (counter, 0, 0, 0)
        var (low, high): (UInt64, UInt64) = (key, 0)
        for _ in 0..<Self.rounds {
            let first = Self.multipliers.0.multipliedFullWidth(by: a)
            let second = Self.multipliers.1.multipliedFullWidth(by: c)
            (a, b, c, d) = (second.high ^ b ^ low, second.low, first.high ^ d ^ high, first.low)
            low &+= Self.keySteps.0
            high &+= Self.keySteps.1
        }
        return (a, b, c, d)
    }
}
