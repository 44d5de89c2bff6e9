#if canImport(CoreML)
    import CoreML
    import XCTest

    @testable import KokoroCoreML

    final class MultiArrayTests: XCTestCase {
        private func array(
            _ bytes: Data, _ type: Manifest.ElementType, _ shape: [Int]
        ) throws -> MLMultiArray {
            let array = MLMultiArray.standInPadded(shape: shape, dataType: type.coreML)
            array.withUnsafeMutableBytes { memory, strides in
                let layout = StridedLayout(
                    shape: shape, strides: strides, itemBytes: type.byteCount)
                XCTAssert(layout?.unpack(bytes, into: memory) ?? false)
            }
            return array
        }

        func testValuesAreReadWhereTheStridesSay() throws {
            for (type, shape) in [
                (.float32, [2, 3, 5]), (.int32, [1, 7]), (.float16, [1, 2, 1, 33]),
                (.float32, [4, 16]), (.float16, [3]),
            ] as [(Manifest.ElementType, [Int])] {
                let count = shape.reduce(type.byteCount, *)
                let bytes = Data((0..<count).map { UInt8($0 % 120) })
                let tensor = try XCTUnwrap(Tensor(array(bytes, type, shape)))
                XCTAssertEqual(tensor.type, type)
                XCTAssertEqual(tensor.shape, shape)
                XCTAssertEqual(try tensor.storage.bytes(), bytes)
            }
        }

        func testThePaddingBetweenRowsIsNotLookedAtForNaN() throws {
            let good = try XCTUnwrap(Tensor(array(Data(count: 2 * 3 * 2), .float16, [2, 3])))
            XCTAssert(try good.isFinite())
            let bad = Data([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x7C])
            let tensor = try XCTUnwrap(Tensor(array(bad, .float16, [2, 3])))
            XCTAssertFalse(try tensor.isFinite())
        }

        func testWhatIsGivenIsWrittenWithoutGapsAndComesBack() throws {
            let tensor = Tensor([1, 2, 3, 4, 5, 6] as [Int32], shape: [2, 3])
            let array = try tensor.multiArray()
            XCTAssertEqual(array.strides, [3, 1])
            XCTAssertEqual(array.dataType, .int32)
            XCTAssertEqual(try Tensor(array)?.int32s(), [1, 2, 3, 4, 5, 6])
        }

        func testAnArrayOfCoreMLIsPassedOnAsItIs() throws {
            let array = try array(Data(count: 12), .float32, [1, 3])
            XCTAssert(try XCTUnwrap(Tensor(array)).multiArray() === array)
        }

        func testElementsThatNoBundleHasAreNoTensor() throws {
            XCTAssertNil(Tensor(try MLMultiArray(shape: [2], dataType: .double)))
        }
    }
#endif
