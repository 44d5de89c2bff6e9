import Foundation
import KokoroBundle

/// Raw values. Half precision is handled by its bits, since Swift has no `Float16` on Macs with
/// Intel's processors.
package enum ElementBits {
    private static let halfExponent: UInt16 = 0x7C00
    private static let singleExponent: UInt32 = 0x7F80_0000

    /// The values of little-endian int32.
    static func integers(_ bytes: Data) -> [Int32] {
        words(bytes).map { (word: UInt32) in Int32(bitPattern: word) }
    }

    /// The bits of little-endian float16.
    static func halves(_ bytes: Data) -> [UInt16] { words(bytes) }

    /// Little-endian int32.
    static func bytes(_ values: [Int32]) -> Data {
        values.map(\.littleEndian).withUnsafeBytes { Data($0) }
    }

    /// The float32 of the same value.
    static func widened(_ half: UInt16) -> Float {
        let sign: Float = half & 0x8000 == 0 ? 1 : -1
        let exponent = Int(half & halfExponent) >> 10
        let fraction = UInt32(half & 0x3FF)
        switch exponent {
        case 0: return sign * Float(fraction) * 0x1p-24
        case 31:
            return Float(bitPattern: UInt32(half & 0x8000) << 16 | singleExponent | fraction << 13)
        default:
            return Float(
                bitPattern: UInt32(half & 0x8000) << 16 | UInt32(exponent + 112) << 23
                    | fraction << 13)
        }
    }

    /// Whether no value of a type is NaN or infinite: these have an exponent of ones.
    static func areFinite(_ bytes: Data, _ type: Manifest.ElementType) -> Bool {
        bytes.withUnsafeBytes { areFinite($0, type) }
    }

    /// The same of memory, of which a last part that is no whole value is left out.
    package static func areFinite(_ raw: UnsafeRawBufferPointer, _ type: Manifest.ElementType)
        -> Bool
    {
        switch type {
        case .int32: return true
        case .float16:
            return allSatisfy(raw) { $0 & halfExponent.littleEndian != halfExponent.littleEndian }
        case .float32:
            return allSatisfy(raw) {
                $0 & singleExponent.littleEndian != singleExponent.littleEndian
            }
        }
    }

    private static func allSatisfy<Word: FixedWidthInteger>(
        _ raw: UnsafeRawBufferPointer, _ isGood: (Word) -> Bool
    ) -> Bool {
        let size = MemoryLayout<Word>.size
        for offset in stride(from: 0, through: raw.count - size, by: size)
        where !isGood(raw.loadUnaligned(fromByteOffset: offset, as: Word.self)) {
            return false
        }
        return true
    }

    private static func words<Word: FixedWidthInteger>(_ bytes: Data) -> [Word] {
        let size = MemoryLayout<Word>.size
        return bytes.withUnsafeBytes { raw in
            stride(from: 0, through: raw.count - size, by: size).map { offset in
                Word(littleEndian: raw.loadUnaligned(fromByteOffset: offset, as: Word.self))
            }
        }
    }
}
