import Foundation

/// Types of the elements of a multi-array; Apple's has more.
public enum MLMultiArrayDataType: Int, Sendable {
    /// 64-bit floating point.
    case double = 0x10040
    /// 32-bit floating point.
    case float32 = 0x10020
    /// 16-bit floating point.
    case float16 = 0x10010
    /// 32-bit signed integers.
    case int32 = 0x20020

    /// Size of an element in bytes.
    var bytes: Int {
        switch self {
        case .double: return 8
        case .float32, .int32: return 4
        case .float16: return 2
        }
    }
}

/// An array with strides. Not `Sendable`, as Apple's is not promised to be.
public final class MLMultiArray: NSObject {
    /// Type of the elements.
    public let dataType: MLMultiArrayDataType
    /// Length of each axis.
    public let shape: [NSNumber]
    /// Elements from one place of an axis to the next.
    public let strides: [NSNumber]
    private let memory: UnsafeMutableRawBufferPointer

    /// Number of elements.
    public var count: Int { shape.reduce(1) { $0 * $1.intValue } }

    /// An array without gaps. Its elements are not cleared; here they are bytes of 0xA5, so that a
    /// reader of what was never written is found out.
    public convenience init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
        self.init(shape: shape, dataType: dataType, strides: Self.packed(shape.map(\.intValue)))
    }

    /// An array as the Neural Engine gives it: rows begin at multiples of 64 bytes, and what lies
    /// between is full of NaN.
    public static func standInPadded(
        shape: [Int], dataType: MLMultiArrayDataType
    ) -> MLMultiArray {
        let aligned = 64 / dataType.bytes
        let row = ((shape.last ?? 1) + aligned - 1) / aligned * aligned
        let strides = packed(Array(shape.dropLast()) + [row])
        return MLMultiArray(
            shape: shape.map { NSNumber(value: $0) }, dataType: dataType,
            strides: shape.isEmpty ? [] : strides)
    }

    private init(shape: [NSNumber], dataType: MLMultiArrayDataType, strides: [Int]) {
        self.dataType = dataType
        self.shape = shape
        self.strides = strides.map { NSNumber(value: $0) }
        // Apple's buffers were seen to be as long as the first axis and its stride say
        // (FluidAudio's pull request 941).
        let elements = (strides.first ?? 1) * (shape.first?.intValue ?? 1)
        memory = .allocate(byteCount: elements * dataType.bytes, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0xA5)
        if strides != Self.packed(shape.map(\.intValue)) {
            memory.initializeMemory(as: UInt8.self, repeating: 0xFF)
        }
    }

    deinit { memory.deallocate() }

    /// Reads the elements where `strides` says they lie.
    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try body(UnsafeRawBufferPointer(memory))
    }

    /// Changes the elements; the body also takes the strides.
    public func withUnsafeMutableBytes<R>(
        _ body: (UnsafeMutableRawBufferPointer, [Int]) throws -> R
    ) rethrows -> R {
        try body(memory, strides.map(\.intValue))
    }

    private static func packed(_ shape: [Int]) -> [Int] {
        var strides = [Int](repeating: 1, count: shape.count)
        for axis in shape.indices.dropLast().reversed() {
            strides[axis] = strides[axis + 1] * shape[axis + 1]
        }
        return strides
    }
}
