#if canImport(CoreML)
    import CoreML
    import Foundation
    import KokoroBundle

    /// Arrays as the Neural Engine gives them: every row begins at a multiple of 64 bytes, and
    /// what lies between the rows is NaN. Elements are found one by one, not as the package does.
    package enum PaddedArray {
        private static let alignment = 64

        /// An array of these values, row by row.
        package static func make(
            _ values: Data, _ type: Manifest.ElementType, _ shape: [Int]
        ) throws -> MLMultiArray {
            let aligned = alignment / type.byteCount
            let row = ((shape.last ?? 1) + aligned - 1) / aligned * aligned
            var strides = [Int](repeating: 1, count: shape.count)
            for axis in shape.indices.dropLast().reversed() {
                strides[axis] = axis + 2 == shape.count ? row : strides[axis + 1] * shape[axis + 1]
            }
            let size = max(row, (strides.first ?? 1) * (shape.first ?? 1)) * type.byteCount
            let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: alignment)
            memory.initializeMemory(as: UInt8.self, repeating: 0xFF, count: size)
            for (place, offset) in offsets(shape, strides).enumerated() {
                for byte in 0..<type.byteCount {
                    memory.storeBytes(
                        of: values[place * type.byteCount + byte],
                        toByteOffset: offset * type.byteCount + byte, as: UInt8.self)
                }
            }
            return try MLMultiArray(
                dataPointer: memory, shape: shape.map { NSNumber(value: $0) },
                dataType: Self.type(type), strides: strides.map { NSNumber(value: $0) },
                deallocator: { $0.deallocate() })
        }

        /// The values of an array, row by row.
        package static func values(_ array: MLMultiArray) -> Data {
            let size = array.dataType == .float16 ? 2 : 4
            let places = offsets(array.shape.map(\.intValue), array.strides.map(\.intValue))
            return array.withUnsafeBytes { memory in
                var data = Data()
                for offset in places {
                    data.append(contentsOf: memory[offset * size..<(offset + 1) * size])
                }
                return data
            }
        }

        /// Core ML's name of a type.
        package static func type(_ type: Manifest.ElementType) -> MLMultiArrayDataType {
            switch type {
            case .float32: return .float32
            case .float16: return .float16
            case .int32: return .int32
            }
        }

        private static func offsets(_ shape: [Int], _ strides: [Int]) -> [Int] {
            (0..<shape.reduce(1, *)).map { place in
                var (rest, offset) = (place, 0)
                for axis in shape.indices.reversed() {
                    offset += rest % shape[axis] * strides[axis]
                    rest /= shape[axis]
                }
                return offset
            }
        }
    }
#endif
