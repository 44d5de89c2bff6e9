import Foundation
import KokoroBundle

/// A sound that both sides make of a few numbers (`docs/goldens.md`).
struct GoldenSound {
    private static let firstMultiplier: UInt32 = 2_654_435_761
    private static let secondMultiplier: UInt32 = 2_246_822_519

    /// float32, 1.0 being full scale.
    let samples: [Float]
    /// Hz.
    let sampleRate: Int

    init(_ input: GoldenInput) throws {
        sampleRate = try input.integer("rate")
        let (hertz, glide) = (try input.number("hertz"), try input.number("glide"))
        let (gain, noise) = (try input.number("gain"), try input.number("noise"))
        let seed = try input.integer("seed", as: UInt32.self)
        let (rate, count): (Double, Int) = (Double(sampleRate), try input.integer("count"))
        var made = (0..<count).map { index -> Float in
            let place = Double(index)
            let turns = (hertz * place + glide * place * place / 2) / rate
            let wave = 4 * abs(turns - turns.rounded(.down) - 0.5) - 1
            return Float(gain * wave + noise * Self.hashed(UInt32(index) &+ seed))
        }
        let changes = try input.table("changes")
        for index in changes.values.names {
            guard let place = Int(index), made.indices.contains(place),
                let value = Float(try changes.text(index))
            else { throw GoldenFailure(reason: "a sound cannot be changed at '\(index)'") }
            made[place] = value
        }
        samples = made
    }

    /// A number from -0.5 to 0.5.
    private static func hashed(_ place: UInt32) -> Double {
        var word = place &* firstMultiplier
        word = (word ^ (word >> 16)) &* secondMultiplier
        word ^= word >> 13
        return Double(word) / 0x1p32 - 0.5
    }
}
