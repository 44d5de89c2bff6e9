import Foundation

/// Raw float32 as voice packs hold it, whatever the machine's own order of bytes.
public enum LittleEndian {
    static let floatBytes = 4

    /// The values of raw float32; bytes behind the last whole value are left out.
    public static func floats(_ bytes: Data) -> [Float] {
        bytes.withUnsafeBytes { raw in
            stride(from: 0, through: raw.count - floatBytes, by: floatBytes).map { offset in
                let bits = raw.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
                return Float(bitPattern: UInt32(littleEndian: bits))
            }
        }
    }

    /// The raw float32 of values.
    public static func bytes(_ values: [Float]) -> Data {
        values.map(\.bitPattern.littleEndian).withUnsafeBytes { Data($0) }
    }

    /// Appends an integer's bytes, the lowest first.
    static func append(_ value: some FixedWidthInteger, to data: inout Data) {
        withUnsafeBytes(of: value.littleEndian) { data.append(contentsOf: $0) }
    }
}
