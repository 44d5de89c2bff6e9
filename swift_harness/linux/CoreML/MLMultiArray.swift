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
    private let deallocator: ((UnsafeMutableRawPointer) -> Void)?

    /// Number of elements.
    public var count: Int { shape.reduce(1) { $0 * $1.intValue } }

    /// An array without gaps. Its elements are not cleared; here they are bytes of 0xA5, so that a
    /// reader of what was never written is found out.
    public convenience init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
        let strides = Self.packed(shape.map(\.intValue))
        let elements = (strides.first ?? 1) * (shape.first?.intValue ?? 1)
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: elements * dataType.bytes, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0xA5, count: elements * dataType.bytes)
        try self.init(
            dataPointer: memory, shape: shape, dataType: dataType,
            strides: strides.map { NSNumber(value: $0) }, deallocator: { $0.deallocate() })
    }

    /// An array over memory that is as long as the first axis and its stride say; `deallocator`
    /// is called at its end.
    public init(
        dataPointer: UnsafeMutableRawPointer, shape: [NSNumber], dataType: MLMultiArrayDataType,
        strides: [NSNumber], deallocator: ((UnsafeMutableRawPointer) -> Void)? = nil
    ) throws {
        guard shape.count == strides.count else {
            throw StandInFailure.error("\(shape.count) axes, but \(strides.count) strides")
        }
        self.dataType = dataType
        self.shape = shape
        self.strides = strides
        self.deallocator = deallocator
        // Apple's buffers were seen to be as long as that (FluidAudio's pull request 941).
        let elements = (strides.first?.intValue ?? 1) * (shape.first?.intValue ?? 1)
        memory = UnsafeMutableRawBufferPointer(
            start: dataPointer, count: elements * dataType.bytes)
    }

    deinit { memory.baseAddress.map { deallocator?($0) } }

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
